/** Ids of workspaces that nobody is to have: words that people read as something else than one workspace. Pure. */
export const RESERVED_WORKSPACES: ReadonlySet<string> = new Set([
  "all",
  "any",
  "anonymous",
  "me",
  "none",
  "own",
  "router",
  "self",
  "signalbox",
  "system",
]);
