/** How pictures look, on a light page and on a dark one. They bring their own page, and no fonts. */

/** What colours mean, and their values: on light, and on dark. */
const COLOURS: Record<string, readonly [light: string, dark: string]> = {
  page: ["#ffffff", "#0d1117"],
  rim: ["#d1d9e0", "#3d444d"],
  ink: ["#1f2328", "#f0f6fc"],
  faint: ["#59636e", "#9198a1"],
  panel: ["#f6f8fa", "#151b23"],
  blue: ["#0969da", "#4493f8"],
  "blue-tint": ["#ddf4ff", "#12233c"],
  amber: ["#9a6700", "#d29922"],
  "amber-tint": ["#fff8c5", "#2b2310"],
  purple: ["#8250df", "#ab7df8"],
  "purple-tint": ["#fbefff", "#241a38"],
  green: ["#1a7f37", "#3fb950"],
  "green-tint": ["#dafbe1", "#12261c"],
  red: ["#cf222e", "#f85149"],
  "red-tint": ["#ffebe9", "#2d171a"],
};

const variables = (shade: 0 | 1): string =>
  Object.entries(COLOURS)
    .map(([name, shades]) => `--${name}:${shades[shade]}`)
    .join(";");

/** The style sheet that all pictures begin with. */
export const BASE_STYLE = `
:root{${variables(0)}}
@media (prefers-color-scheme:dark){:root{${variables(1)}}}
text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif;fill:var(--ink)}
.title{font-size:20px;font-weight:600}
.name{font-size:14px;font-weight:600}
.about{font-size:12.5px;fill:var(--faint)}
.page{fill:var(--page);stroke:var(--rim)}
.rule{stroke:var(--rim)}
`;
