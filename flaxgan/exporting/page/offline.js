// Keeps what the page has loaded, so that it opens without a network. A new export has a new name.

const NAME = "flaxgan-{{digest}}";
const OWN = ["./", "page.js", "style.css"]; // loaded before this worker was there

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(NAME).then((cache) => cache.addAll(OWN)));
});

self.addEventListener("activate", (event) => {
  const tidy = async () => {
    const old = (await caches.keys()).filter((name) => name.startsWith("flaxgan-") && name !== NAME);
    await Promise.all(old.map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(tidy());
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
