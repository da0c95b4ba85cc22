/** Settings of tokens, certificates and sidecars that are right alone and wrong together. */
import type { ConfigProblem } from "./config-error.ts";
import type { Config, SettingKey } from "./settings.ts";

/** `where` tells where a setting was given. */
export function tokenContradictions(
  { jwt, tls, auth, allowPrivateUrls }: Config,
  where: (key: SettingKey) => string,
): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  const add = (key: SettingKey, message: string) => problems.push({ where: where(key), message });

  if (jwt.issuers.length > 0 && jwt.audience.length === 0) {
    add(
      "jwt.issuers",
      "jwt.issuers needs jwt.audience beside it, or tokens for other services would count here. Set both.",
    );
  }
  if (jwt.issuers.length > 0 && jwt.algorithms.length === 0) {
    add("jwt.algorithms", "jwt.algorithms is empty, so no token counts. Name one, or leave it out.");
  }
  const plain = jwt.issuers.find((issuer) => !/^https:/i.test(issuer));
  if (plain !== undefined && !allowPrivateUrls) {
    add("jwt.issuers", `${plain} is not https, so its keys could be anybody's. Use https, or set allow-private-urls.`);
  }
  const places = new Map<string, string>();
  for (const issuer of jwt.issuers) {
    // Ids of principals leave the scheme out.
    const place = issuer.replace(/^https?:/i, "");
    const other = places.get(place);
    if (other !== undefined) {
      add("jwt.issuers", `${other} and ${issuer} would give their subjects the same ids. Name one of them, once.`);
    }
    places.set(place, issuer);
  }
  if (tls.trustDomains.length > 0 && tls.clientCa === undefined && auth.trustedProxies.length === 0) {
    add(
      "tls.trust-domains",
      "tls.trust-domains needs tls.client-ca, for certificates of clients, or auth.trusted-proxies, for sidecars. Set one of them.",
    );
  }
  if (auth.trustedProxies.length > 0 && tls.trustDomains.length === 0) {
    add(
      "auth.trusted-proxies",
      "auth.trusted-proxies needs tls.trust-domains beside it: nobody else counts. Set both.",
    );
  }
  return problems;
}
