/** The forms of a hot statement: each does what its batch wants, and costs nothing for what it does not. */
import type { Statement } from "./database.ts";

/** What a batch wants beside the rows of tasks and their logs. */
export interface Wanted {
  /** Entries of the audit log. */
  readonly isAudited: boolean;
  /** Changes of approvals. */
  readonly approves: boolean;
}

/** Gives the form of a statement that does what is wanted; `text` makes each once. */
export function statementForms(name: string, text: (wanted: Wanted) => string): (wanted: Wanted) => Statement {
  const forms = new Map<string, Statement>();
  return (wanted) => {
    const formName = `${name}${wanted.isAudited ? "" : "-unaudited"}${wanted.approves ? "-approving" : ""}`;
    let form = forms.get(formName);
    if (!form) {
      form = { name: formName, text: text(wanted) };
      forms.set(formName, form);
    }
    return form;
  };
}
