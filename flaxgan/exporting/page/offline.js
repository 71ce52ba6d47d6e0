// Keeps what the page has loaded, so that it opens without a network. A new export has a new name.

const NAME = "flaxgan-{{digest}}";
const OWN = ["./", "page.js", "style.css", "worker.js", "generator.js", "tokenizer.js", "noise.js"];

/** Keeps files: those that the page brings along, the others out of the browser's own cache. */
async function keep(paths, bodies = {}) {
  const cache = await caches.open(NAME);
  const take = async (path) => {
    if (await cache.match(path)) return;
    if (bodies[path]) await cache.put(path, new Response(bodies[path]));
    else await cache.add(new Request(path, { cache: "force-cache" }));
  };
  await Promise.all(paths.map(take));
}

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(keep(OWN));
});

self.addEventListener("activate", (event) => {
  const tidy = async () => {
    const old = (await caches.keys()).filter((name) => name.startsWith("flaxgan-") && name !== NAME);
    await Promise.all(old.map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(tidy());
});

self.addEventListener("message", (event) => {
  const { paths, bodies } = event.data;
  event.waitUntil(keep(paths, bodies));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== self.location.origin) return;
  const answer = async () => {
    const cache = await caches.open(NAME);
    const found = await cache.match(request, { ignoreSearch: true });
    if (found) return found;
    const fresh = await fetch(request);
    if (fresh.ok) event.waitUntil(cache.put(request.url.split("?")[0], fresh.clone()));
    return fresh;
  };
  event.respondWith(answer());
});
