// Text to token ids, as flaxgan does it in Python: flaxgan/text/e5.py and the package tokenizers.
// A unigram model (Kudo 2018): each word is cut into the pieces whose log probabilities sum highest.

const SPACE = "\u2581";
const MOST_CHARACTERS = 2000;

/** Unicode NFC without control characters and lone surrogates. */
export function clean(text) {
  const start = Array.from(text).slice(0, MOST_CHARACTERS).join("");
  return start.normalize("NFC").replace(/[\0-\x1f\x7f-\x9f]|\p{Surrogate}/gu, " ");
}

export class Unigram {
  /**
   * @param {object} data pieces: array of strings; scores: their log probabilities;
   *   unkScore: of a character that no piece holds; replacements: character -> text;
   *   special: {bos, eos, unk} as places in pieces; prefix: before every caption; maxTokens.
   */
  constructor(data) {
    Object.assign(this, data);
    this.places = new Map(data.pieces.map((piece, place) => [piece, place]));
    for (const place of Object.values(data.special)) this.places.delete(data.pieces[place]);
    this.longest = data.pieces.reduce((most, piece) => Math.max(most, piece.length), 1);
  }

  /**
   * @param {string} text a caption
   * @param {(place: number) => boolean} known whether a piece may be used
   * @returns {number[]} places of its pieces, with those of start and end
   */
  encode(text, known = () => true) {
    const { bos, eos } = this.special;
    const found = [bos];
    for (const word of this.words(clean(text))) found.push(...this.cut(word, known));
    found.push(eos);
    if (found.length <= this.maxTokens) return found;
    return [...found.slice(0, this.maxTokens - 1), eos];
  }

  words(text) {
    const mapped = Array.from(this.prefix + text, (c) => this.replacements[c] ?? c).join("");
    const plain = mapped.replace(/ +/g, " ").replace(/^ +| +$/g, "");
    if (!plain) return [];
    return (SPACE + plain.replaceAll(" ", SPACE)).split(new RegExp(`(?=${SPACE})`, "u"));
  }

  /** The best path through a word (Viterbi); neighbours that no piece holds are one token. */
  cut(word, known) {
    const best = [{ score: 0, start: -1, place: -1 }];
    for (let start = 0; start < word.length; ) {
      const size = word.codePointAt(start) > 0xffff ? 2 : 1;
      const before = best[start].score;
      let single = false;
      const reach = (end, score, place) => {
        if (!best[end] || score > best[end].score) best[end] = { score, start, place };
      };
      const last = Math.min(word.length, start + this.longest);
      for (let end = start + 1; end <= last; end++) {
        const place = this.places.get(word.slice(start, end));
        if (place === undefined || !known(place)) continue;
        reach(end, this.scores[place] + before, place);
        single ||= end - start === size;
      }
      if (!single) reach(start + size, this.unkScore + before, this.special.unk);
      start += size;
    }
    const found = [];
    for (let end = word.length; end > 0; end = best[end].start) {
      const { place } = best[end];
      if (place !== this.special.unk || found.at(-1) !== place) found.push(place);
    }
    return found.reverse();
  }
}

/** UTF-8 bytes, for models that read these; the empty caption keeps one zero. */
export class Bytes {
  constructor({ maxTokens }) {
    this.maxTokens = maxTokens;
  }

  encode(text) {
    const bytes = new TextEncoder().encode(clean(text)).slice(0, this.maxTokens);
    return bytes.length ? Array.from(bytes) : [0];
  }
}
