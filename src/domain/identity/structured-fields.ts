/** As much of structured fields (RFC 8941) as signed requests need: a dictionary of inner lists, or of bytes. Pure. */

/** An integer, a text, a token, bytes, or a boolean. */
export type BareItem =
  | { readonly kind: "integer"; readonly value: number }
  | { readonly kind: "string" | "token"; readonly value: string }
  | { readonly kind: "bytes"; readonly value: Uint8Array }
  | { readonly kind: "boolean"; readonly value: boolean };

export type Parameters = readonly (readonly [name: string, value: BareItem])[];

export interface Item {
  readonly value: BareItem;
  readonly parameters: Parameters;
}

export interface InnerList {
  readonly items: readonly Item[];
  readonly parameters: Parameters;
}

export type Member = Item | InnerList;

/** Longest field that is read, and most members, items and parameters in one. */
const MAX_LENGTH = 8_192;
const MOST = 64;

const KEY = /[a-z*][a-z0-9_.*-]*/y;
const TOKEN = /[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*/y;
const INTEGER = /-?\d{1,15}(?![\d.])/y;
const STRING = /"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"/y;
const BYTES = /:([A-Za-z0-9+/]*={0,2}):/y;
const BOOLEAN = /\?([01])/y;
const SPACES = / */y;
const BLANKS = /[ \t]*/y;

/** The members of a dictionary, by name; undefined for what is none, or is too long. Of one name the last counts, as the RFC has it. */
export function parseDictionary(text: string): ReadonlyMap<string, Member> | undefined {
  if (text.length > MAX_LENGTH) return undefined;
  try {
    return new Reader(text).dictionary();
  } catch (error) {
    if (error instanceof NotStructured) return undefined;
    throw error;
  }
}

export const isInnerList = (member: Member): member is InnerList => "items" in member;

/** The one way in which an inner list is written (RFC 8941, section 4.1.1.1). */
export function innerListText({ items, parameters }: InnerList): string {
  return `(${items.map(itemText).join(" ")})${parametersText(parameters)}`;
}

/** The same of an item. */
export const itemText = ({ value, parameters }: Item): string => bareText(value) + parametersText(parameters);

const parametersText = (parameters: Parameters): string =>
  parameters
    .map(([name, value]) => (value.kind === "boolean" && value.value ? `;${name}` : `;${name}=${bareText(value)}`))
    .join("");

function bareText(item: BareItem): string {
  switch (item.kind) {
    case "integer":
      return String(item.value);
    case "string":
      return `"${item.value.replace(/["\\]/g, "\\$&")}"`;
    case "token":
      return item.value;
    case "bytes":
      return `:${Buffer.from(item.value).toString("base64")}:`;
    case "boolean":
      return item.value ? "?1" : "?0";
  }
}

class NotStructured extends Error {}

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text.replace(/^ +| +$/g, "");
  }

  dictionary(): Map<string, Member> {
    const members = new Map<string, Member>();
    while (this.#at < this.#text.length) {
      if (members.size >= MOST) throw new NotStructured();
      const name = this.#take(KEY)[0];
      const member = this.#eat("=") ? this.#member() : { value: TRUE, parameters: this.#parameters() };
      // A name that comes again takes the place that it has now.
      members.delete(name);
      members.set(name, member);
      this.#take(BLANKS);
      if (this.#at === this.#text.length) break;
      if (!this.#eat(",")) throw new NotStructured();
      this.#take(BLANKS);
      if (this.#at === this.#text.length) throw new NotStructured();
    }
    return members;
  }

  #member(): Member {
    if (!this.#eat("(")) return this.#item();
    const items: Item[] = [];
    for (;;) {
      this.#take(SPACES);
      if (this.#eat(")")) return { items, parameters: this.#parameters() };
      if (items.length >= MOST) throw new NotStructured();
      items.push(this.#item());
      const next = this.#text[this.#at];
      if (next !== " " && next !== ")") throw new NotStructured();
    }
  }

  #item(): Item {
    return { value: this.#bare(), parameters: this.#parameters() };
  }

  #parameters(): Parameters {
    const found = new Map<string, BareItem>();
    while (this.#eat(";")) {
      if (found.size >= MOST) throw new NotStructured();
      this.#take(SPACES);
      const name = this.#take(KEY)[0];
      const value = this.#eat("=") ? this.#bare() : TRUE;
      found.delete(name);
      found.set(name, value);
    }
    return [...found];
  }

  #bare(): BareItem {
    const first = this.#text[this.#at] ?? "";
    if (first === '"') return { kind: "string", value: this.#take(STRING)[1]!.replace(/\\(.)/g, "$1") };
    if (first === ":") return { kind: "bytes", value: Buffer.from(this.#take(BYTES)[1]!, "base64") };
    if (first === "?") return { kind: "boolean", value: this.#take(BOOLEAN)[1] === "1" };
    if (/[-0-9]/.test(first)) return { kind: "integer", value: Number(this.#take(INTEGER)[0]) };
    return { kind: "token", value: this.#take(TOKEN)[0] };
  }

  #eat(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #take(pattern: RegExp): RegExpExecArray {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (!found) throw new NotStructured();
    this.#at = pattern.lastIndex;
    return found;
  }
}

const TRUE: BareItem = { kind: "boolean", value: true };
