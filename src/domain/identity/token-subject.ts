/** Ids of those whom tokens name. Pure. */

/** Most characters of an id. */
export const MAX_SUBJECT_ID_LENGTH = 512;

/**
 * `jwt/<host and path of the issuer>/<subject>`. What is no letter, digit or one of `._~@-` is percent-encoded, in UTF-8, so that
 * no id holds a colon, a space, a `*` or a control character; the slashes of the issuer stay, those of the subject do not. Two
 * subjects of one issuer never share an id, nor do those of two issuers whose addresses differ in more than `http` and `https`.
 * Undefined where there is no such id: the issuer is no address, the subject is empty, or half a surrogate pair, which has no
 * UTF-8; or where it would be too long.
 */
export function subjectId(issuer: string, subject: string): string | undefined {
  const place = /^https?:\/\/(.+)$/is.exec(issuer)?.[1];
  if (place === undefined || subject === "" || !issuer.isWellFormed() || !subject.isWellFormed()) return undefined;
  if (place.length + subject.length > MAX_SUBJECT_ID_LENGTH) return undefined;
  const id = `jwt/${place.split("/").map(encoded).join("/")}/${encoded(subject)}`;
  return id.length <= MAX_SUBJECT_ID_LENGTH ? id : undefined;
}

const encoded = (text: string): string =>
  text.replace(/[^A-Za-z0-9._~@-]+/g, (others) =>
    Buffer.from(others).reduce((so, byte) => `${so}%${byte.toString(16).toUpperCase().padStart(2, "0")}`, ""),
  );
