/**
 * Path templates of `google.api.http`. Of the grammar in google/api/http.proto this reads what our contracts use: literal
 * segments, variables of one segment (`{id}`, `{id=*}`, `{agent.agent_id}`) and a verb (`:cancel`).
 */

/** A literal segment, or a variable: the path of the field that it binds, by proto names. */
export type TemplateSegment = { literal: string } | { fieldPath: string };

export interface PathTemplate {
  segments: readonly TemplateSegment[];
  /** What follows the last colon; empty when there is none. */
  verb: string;
}

const VERB = /:([A-Za-z][A-Za-z0-9_]*)$/;
const VARIABLE = /^\{([a-z0-9_]+(?:\.[a-z0-9_]+)*)(?:=\*)?\}$/;
const LITERAL = /^[A-Za-z0-9._~-]+$/;

/** Throws for a template that is not understood: the contract is at fault, and the server does not start. */
export function parsePathTemplate(template: string): PathTemplate {
  const verb = VERB.exec(template)?.[1] ?? "";
  const path = verb === "" ? template : template.slice(0, -verb.length - 1);
  const [root, ...parts] = path.split("/");
  const segments = parts.map((part): TemplateSegment => {
    const fieldPath = VARIABLE.exec(part)?.[1];
    if (fieldPath !== undefined) return { fieldPath };
    if (LITERAL.test(part)) return { literal: part };
    throw new Error(`Path template ${template}: the segment "${part}" is not understood.`);
  });
  if (root !== "" || segments.length === 0) throw new Error(`Path template ${template} does not begin with "/".`);
  return { segments, verb };
}
