/** Hides secrets in addresses. */

/** An address without its password, fit for logs and errors; nothing of an address that cannot be read. */
export function maskedUrl(address: string): string {
  const url = URL.parse(address);
  if (url === null) return "(an address that cannot be read)";
  if (url.password) url.password = "***";
  for (const name of url.searchParams.keys()) {
    if (/password|secret|token/i.test(name)) url.searchParams.set(name, "***");
  }
  return url.href;
}
