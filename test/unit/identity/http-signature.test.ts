/** Signed requests: what the RFC's own examples say, what is refused, and that nothing that is covered can be changed. */
import { createHash, createHmac } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  checkContent,
  isSignedWith,
  readSignature,
  type SignedRequest,
  signatureBase,
  signHttpRequest,
} from "../../../src/domain/identity/http-signature.ts";
import { innerListText, isInnerList, parseDictionary } from "../../../src/domain/identity/structured-fields.ts";
import { frameMessage, signRequest } from "../../../src/sdk/signing.ts";

const sha256 = (content: string | Uint8Array) => createHash("sha256").update(content).digest();
const KEY_ID = "0mek1q2ab3456789";
const SECRET = "s".repeat(43);
const NONCE = "n".repeat(16);

/** The request of RFC 9421, appendix B.2, without what is none of this matter. */
const RFC_HEADERS: Readonly<Record<string, string>> = {
  host: "example.com",
  date: "Tue, 20 Apr 2021 02:07:55 GMT",
  "content-type": "application/json",
  "content-length": "18",
};
const RFC_REQUEST: SignedRequest = {
  method: "POST",
  target: "/foo?param=Value&Pet=dog",
  authority: "example.com",
  header: (name) => RFC_HEADERS[name] ?? null,
};

const listIn = (text: string) => {
  const member = parseDictionary(text)?.get("sig");
  if (!member || !isInnerList(member)) throw new Error(`${text} is no list`);
  return member;
};

describe("the examples of RFC 9421", () => {
  it("B.2.5: signs with the test shared secret as the RFC does", () => {
    const input = listIn('sig=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"');
    const base = signatureBase(RFC_REQUEST, input);
    expect(base).toBe(
      [
        '"date": Tue, 20 Apr 2021 02:07:55 GMT',
        '"@authority": example.com',
        '"content-type": application/json',
        '"@signature-params": ("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"',
      ].join("\n"),
    );
    // The secret is 64 bytes, and no text.
    const secret = Buffer.from(
      "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==",
      "base64",
    );
    const signature = createHmac("sha256", secret).update(base).digest("base64");
    expect(signature).toBe("pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=");
  });

  it("2.5: makes the base of the example", () => {
    const headers: Readonly<Record<string, string>> = {
      "content-digest":
        "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
      "content-length": "18",
      "content-type": "application/json",
    };
    const params =
      '("@method" "@authority" "@path" "content-digest" "content-length" "content-type");created=1618884473;keyid="test-key-rsa-pss"';
    const base = signatureBase(
      { ...RFC_REQUEST, target: "/foo", header: (name) => headers[name] ?? null },
      listIn(`sig=${params}`),
    );
    expect(base).toBe(
      [
        '"@method": POST',
        '"@authority": example.com',
        '"@path": /foo',
        `"content-digest": ${headers["content-digest"]}`,
        '"content-length": 18',
        '"content-type": application/json',
        `"@signature-params": ${params}`,
      ].join("\n"),
    );
  });

  it("2.2.7: a query is its text with the question mark, and the mark alone where there is none", () => {
    const input = listIn('sig=("@query")');
    expect(signatureBase(RFC_REQUEST, input)).toContain('"@query": ?param=Value&Pet=dog\n');
    expect(signatureBase({ ...RFC_REQUEST, target: "/foo" }, input)).toContain('"@query": ?\n');
  });
});

interface Sent extends SignedRequest {
  headers: Map<string, string>;
  content: Uint8Array;
}

function sent(method: string, target: string, content: string | Uint8Array, more: Record<string, string> = {}): Sent {
  const headers = new Map(Object.entries(more));
  return {
    method,
    target,
    authority: "router.example:8080",
    header: (name) => headers.get(name) ?? null,
    headers,
    content: typeof content === "string" ? Buffer.from(content) : content,
  };
}

function signed(request: Sent, fields: string[] = []): Sent {
  const isEmpty = request.content.length === 0 && /^(GET|HEAD|DELETE)$/.test(request.method);
  const signature = signHttpRequest(request, {
    keyId: KEY_ID,
    secret: SECRET,
    created: 1_700_000_000,
    nonce: NONCE,
    fields,
    ...(!isEmpty && { contentDigest: sha256(request.content) }),
  });
  for (const [name, value] of Object.entries(signature)) request.headers.set(name, value as string);
  return request;
}

/** Whether a server with the key lets it in, as far as the signature goes. Why not is in what it throws. */
function verifies(request: Sent): boolean {
  const signature = readSignature(request);
  checkContent(request, signature, sha256(request.content));
  return isSignedWith(signature, SECRET);
}

/** The same, where a request that is refused for whatever reason is refused. */
function letsIn(request: Sent): boolean {
  try {
    return verifies(request);
  } catch (error) {
    expect(error).toMatchObject({ code: "UNAUTHENTICATED", reason: "CREDENTIAL_INVALID" });
    return false;
  }
}

const changed = (request: Sent, change: Partial<Sent>, headers: Record<string, string> = {}): Sent => {
  const all = new Map([...request.headers, ...Object.entries(headers)]);
  return { ...request, headers: all, header: (name) => all.get(name) ?? null, ...change };
};

describe("a signed request", () => {
  it("is let in as it was signed, and in no other form", () => {
    const request = signed(sent("POST", "/v1/tasks?wait=1", "{}", { "x-tenant": "a" }), ["x-tenant", "@authority"]);
    expect(verifies(request)).toBe(true);
    expect(letsIn(changed(request, { method: "PUT" }))).toBe(false);
    expect(letsIn(changed(request, { target: "/v1/task?wait=1" }))).toBe(false);
    expect(letsIn(changed(request, { target: "/v1/tasks?wait=0" }))).toBe(false);
    expect(letsIn(changed(request, { target: "/v1/tasks" }))).toBe(false);
    expect(letsIn(changed(request, { content: Buffer.from("[]") }))).toBe(false);
    expect(letsIn(changed(request, { authority: "other.example" }))).toBe(false);
    expect(letsIn(changed(request, {}, { "x-tenant": "b" }))).toBe(false);
  });

  it("does not gain a query that was not signed", () => {
    const request = signed(sent("POST", "/v1/tasks", "{}"));
    expect(() => verifies(changed(request, { target: "/v1/tasks?admin=1" }))).toThrow('must cover "@query"');
  });

  it("does not swap its content and digest together", () => {
    const request = signed(sent("POST", "/v1/tasks", "{}"));
    const other = Buffer.from('{"a":1}');
    const digest = `sha-256=:${sha256(other).toString("base64")}:`;
    expect(verifies(changed(request, { content: other }, { "content-digest": digest }))).toBe(false);
  });

  it("needs no digest where there is no content, and one where a GET has some", () => {
    const request = signed(sent("GET", "/v1/tasks", ""));
    expect(request.headers.has("content-digest")).toBe(false);
    expect(verifies(request)).toBe(true);
    expect(() => verifies(changed(request, { content: Buffer.from("x") }))).toThrow('must cover "content-digest"');
  });

  it("is refused without a digest of what it posts, though it posts nothing", () => {
    const request = signed(sent("GET", "/v1/tasks", ""));
    expect(() => verifies(changed(request, { method: "POST" }))).toThrow('must cover "content-digest"');
  });

  it("is refused where the content is a stream", () => {
    const request = signed(sent("POST", "/x", "{}"));
    expect(() => checkContent(request, readSignature(request), undefined)).toThrow("is a stream");
  });

  it("takes digests of other kinds beside the one that counts, and none instead of it", () => {
    const request = signed(sent("POST", "/x", "{}"));
    const digest = request.headers.get("content-digest")!;
    const both = sent("POST", "/x", "{}");
    const other = `sha-512=:${createHash("sha512").update("{}").digest("base64")}:`;
    const signature = { ...readSignature(request), coversContent: true };
    for (const [field, ok] of [
      [`${other}, ${digest}`, true],
      [other, false],
      ["sha-256=:AAAA:", false],
      ["sha-256=word", false],
      ["", false],
    ] as const) {
      both.headers.set("content-digest", field);
      const check = () => checkContent(both, signature, sha256("{}"));
      if (ok) check();
      else expect(check).toThrow("Content-Digest must hold a sha-256");
    }
  });

  const input = (text: string) => {
    const request = signed(sent("GET", "/x", ""));
    request.headers.set("signature-input", text);
    return request;
  };
  const good = `("@method" "@path");created=1700000000;keyid="${KEY_ID}";nonce="${NONCE}"`;
  it.each([
    ["no list", "sig1=word", "must be a list"],
    ["no dictionary", "(((", "no dictionary"],
    ["nothing", "", "no dictionary"],
    ["several signatures", `sig1=${good}, sig2=${good}`, "Sign once"],
    ["another label", `sig2=${good}`, "differently"],
    ["no method", `sig1=${good.replace('"@method" ', "")}`, 'must cover "@method"'],
    ["no path", `sig1=${good.replace(' "@path"', "")}`, 'must cover "@path"'],
    ["the scheme", `sig1=${good.replace('"@path"', '"@path" "@scheme"')}`, "nothing else"],
    ["the whole address", `sig1=${good.replace('"@path"', '"@path" "@target-uri"')}`, "nothing else"],
    ["a part of the query", `sig1=${good.replace('"@path"', '"@path" "@query-param";name="a"')}`, "nothing else"],
    ["a parameter of a component", `sig1=${good.replace('"@path"', '"@path";req')}`, "nothing else"],
    ["its own signature", `sig1=${good.replace('"@path"', '"@path" "signature"')}`, "nothing else"],
    ["a name in upper case", `sig1=${good.replace('"@path"', '"@path" "Date"')}`, "nothing else"],
    ["a component twice", `sig1=${good.replace('"@path"', '"@path" "@path"')}`, "twice"],
    ["a header that is not there", `sig1=${good.replace('"@path"', '"@path" "x-not"')}`, "no such header"],
    ["another algorithm", `sig1=${good};alg="rsa-v1_5-sha256"`, '"alg" must be'],
    ["a parameter of its own", `sig1=${good};mine=1`, 'parameter "mine"'],
    ["no time", `sig1=${good.replace("created=1700000000;", "")}`, "when it was made"],
    ["a time with a fraction", `sig1=${good.replace("1700000000", "1700000000.5")}`, "no dictionary"],
    ["no key", `sig1=${good.replace(`keyid="${KEY_ID}";`, "")}`, "name a key"],
    ["no nonce", `sig1=${good.replace(`;nonce="${NONCE}"`, "")}`, "nonce"],
    ["a short nonce", `sig1=${good.replace(NONCE, "n".repeat(15))}`, "nonce"],
    ["a long nonce", `sig1=${good.replace(NONCE, "n".repeat(65))}`, "nonce"],
    ["a nonce with a space", `sig1=${good.replace(NONCE, "n n n n n n n n n n")}`, "nonce"],
    ["an end that is no number", `sig1=${good};expires="soon"`, '"expires"'],
  ])("is refused with %s", (_, text, why) => {
    expect(() => readSignature(input(text))).toThrow(why);
  });

  it("is refused without Signature, and with one that is no HMAC of SHA-256", () => {
    const request = signed(sent("GET", "/x", ""));
    for (const text of [undefined, "sig1=:AAAA:", "sig1=word", "sig1=()", 'sig1="text"']) {
      if (text === undefined) request.headers.delete("signature");
      else request.headers.set("signature", text);
      expect(() => readSignature(request)).toThrow("Signature");
    }
  });

  it("is bounded", () => {
    const many = Array.from({ length: 40 }, (_, i) => `"x-${i}"`).join(" ");
    expect(() => readSignature(input(`sig1=(${many});created=1`))).toThrow();
    expect(parseDictionary(`a=${"x".repeat(10_000)}`)).toBeUndefined();
    expect(parseDictionary(Array.from({ length: 100 }, (_, i) => `a${i}=1`).join(", "))).toBeUndefined();
  });
});

describe("the signer of the SDK", () => {
  const path = fc
    .stringMatching(/^(\/[a-zA-Z0-9._~%:-]{0,12}){1,4}$/)
    .filter((text) => !/%|\/\.{1,2}(\/|$)/.test(text));
  const query = fc.option(fc.stringMatching(/^[a-zA-Z0-9=&._-]{1,20}$/), { nil: undefined });
  const method = fc.constantFrom("GET", "HEAD", "DELETE", "POST", "PUT", "PATCH");
  const content = fc.uint8Array({ maxLength: 64 });

  it("makes what a server lets in, and agrees with the other signer", () => {
    fc.assert(
      fc.property(method, path, query, content, (verb, where, asked, body) => {
        const target = asked === undefined ? where : `${where}?${asked}`;
        const time = new Date(1_700_000_000_000);
        const key = `sbx_${KEY_ID}_${SECRET}`;
        const headers = signRequest({
          method: verb,
          url: `http://127.0.0.1:1${target}`,
          body,
          key,
          time,
          nonce: NONCE,
        });
        const request = sent(verb, target, body);
        for (const [name, value] of Object.entries(headers)) request.headers.set(name.toLowerCase(), value as string);
        expect(verifies(request)).toBe(true);
        expect(readSignature(request)).toMatchObject({ keyId: KEY_ID, nonce: NONCE, created: 1_700_000_000 });
        expect(request.headers).toEqual(signed(sent(verb, target, body)).headers);
      }),
    );
  });

  it("signs what no bit can be changed of", () => {
    fc.assert(
      fc.property(content, fc.nat(), fc.constantFrom("content", "signature", "path"), (body, at, what) => {
        const full = body.length === 0 ? Uint8Array.of(0) : body;
        const request = signed(sent("POST", "/path/of/it", full));
        if (what === "content") {
          const other = Uint8Array.from(full);
          other[at % other.length]! ^= 1 << (at % 8);
          expect(letsIn(changed(request, { content: other }))).toBe(false);
        } else if (what === "path") {
          const place = 1 + (at % (request.target.length - 1));
          const target = `${request.target.slice(0, place)}~${request.target.slice(place + 1)}`;
          expect(letsIn(changed(request, { target }))).toBe(false);
        } else {
          const bytes = Buffer.from(readSignature(request).signature);
          bytes[at % bytes.length]! ^= 1 << (at % 8);
          const signature = `sig1=:${bytes.toString("base64")}:`;
          expect(letsIn(changed(request, {}, { signature }))).toBe(false);
        }
      }),
    );
  });

  it("never says a key that it cannot use", () => {
    const sign = () => signRequest({ method: "GET", url: "http://a/", key: "sbx_short_secret" });
    expect(sign).toThrow(TypeError);
    expect(sign).not.toThrow("sbx_short_secret");
  });

  it("frames a message as gRPC does", () => {
    expect(Buffer.from(frameMessage(Buffer.from("abc"))).toString("hex")).toBe("0000000003616263");
  });
});

describe("structured fields", () => {
  it("are written in one way, however they came", () => {
    const list = listIn('sig=(  "a"   "b";x );created=1;keyid="a\\"b\\\\";flag;off=?0;t=tok/en:x;b=:aGk=:');
    expect(innerListText(list)).toBe('("a" "b";x);created=1;keyid="a\\"b\\\\";flag;off=?0;t=tok/en:x;b=:aGk=:');
  });

  it("are read whatever comes, or refused, and never fail otherwise", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), (text) => {
        const read = parseDictionary(text);
        expect(read === undefined || read instanceof Map).toBe(true);
      }),
    );
    for (const text of [
      "a=1,",
      "a=1 b=2",
      "a=(1",
      'a="',
      "a=:x",
      "a=?2",
      "A=1",
      "a=1.5",
      "a=(1 2)x",
      ",",
      'a="\u00e9"',
      "a=(",
    ]) {
      expect(parseDictionary(text), text).toBeUndefined();
    }
    expect([...parseDictionary("a=1, b,a=2")!.keys()]).toEqual(["b", "a"]);
  });
});
