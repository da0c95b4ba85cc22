/** How the picture of the states looks. */
import { BASE_STYLE } from "../drawing/style.ts";

/** The style sheet. */
export const STYLE = `${BASE_STYLE.trimEnd()}
.frame-name{font-size:13.5px;font-weight:600}
.frame{fill:var(--panel);stroke:var(--rim)}
.frame.waiting{fill:none;stroke:var(--amber);stroke-dasharray:5 4}
.box{stroke-width:1.6}
.leased{fill:var(--blue-tint);stroke:var(--blue)}
.claimable{fill:var(--amber-tint);stroke:var(--amber)}
.client{fill:var(--purple-tint);stroke:var(--purple)}
.ended{fill:var(--panel);stroke:var(--faint)}
.inner{fill:none;stroke:var(--faint)}
.completed{stroke:var(--green)}
.ended.completed{fill:var(--green-tint)}
.failed{stroke:var(--red)}
.ended.failed{fill:var(--red-tint)}
.line{fill:none;stroke-width:1.8}
.line.on{stroke:var(--ink)}
.head.on,.start{fill:var(--ink)}
.line.again{stroke:var(--amber);stroke-dasharray:6 4}
.head.again{fill:var(--amber)}
.line.end{stroke:var(--faint)}
.head.end{fill:var(--faint)}
`;
