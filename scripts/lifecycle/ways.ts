/**
 * The ways between the states of a task, told for people: the table of docs/task-lifecycle.md. Which ways there are is the
 * domain's to say: one that is told here and is not there, or the other way round, is an error.
 */
import { EngineState, engineStateName, INITIAL_STATES, TRANSITIONS } from "../../src/domain/task-state.ts";

const { QUEUED, WORKING, COMPLETED, FAILED, CANCELED, INPUT_REQUIRED, REJECTED, AUTH_REQUIRED, ASSIGNED, SCHEDULED } =
  EngineState;

/** Where a task comes from that was not there before. */
export const NEW = "new";

/** Leads from each of some states to each of others, or back to itself. */
export interface Ways {
  from: readonly (EngineState | typeof NEW)[];
  to: readonly EngineState[] | "itself";
}

interface ToldWays extends Ways {
  because: string;
  /** What the rows of the log that go this way have as their cause. */
  inLog?: string;
}

const WAITING = [SCHEDULED, QUEUED];
const WITH_AGENT = [WORKING, INPUT_REQUIRED, AUTH_REQUIRED];
const LEASED = [ASSIGNED, WORKING, AUTH_REQUIRED];
const NOTHING_YET = "allowed; nothing does it today";

const TOLD: readonly ToldWays[] = [
  { from: [NEW], to: [ASSIGNED], because: "a replica accepts it and has room", inLog: "`accepted by replica R`" },
  {
    from: [NEW],
    to: [QUEUED],
    because: "a replica accepts it and has no room, or others wait already",
    inLog: "`accepted by replica R, which had no room`",
  },
  { from: [QUEUED], to: [ASSIGNED], because: "a replica that has room claims it", inLog: "`claimed from the queue`" },
  {
    from: [SCHEDULED],
    to: [ASSIGNED],
    because: "its pause is over or its deadline has come, and a replica that has room claims it",
    inLog: "`due, and claimed`",
  },
  {
    from: [QUEUED],
    to: [INPUT_REQUIRED],
    because: "the policy wants it approved first; in the write that stores it",
    inLog: "`waits for its approval`",
  },
  {
    from: [INPUT_REQUIRED],
    to: [QUEUED],
    because: "it is approved; clients see WORKING from here on",
    inLog: "`approved by P`",
  },
  { from: [ASSIGNED], to: [WORKING], because: "the agent works on it", inLog: "`reported by the agent`" },
  {
    from: [ASSIGNED, WORKING],
    to: [INPUT_REQUIRED, AUTH_REQUIRED],
    because: "the agent asks; after an answer also: it did not hear the answer, and still asks",
    inLog: "`reported by the agent`, `a message met trouble`",
  },
  {
    from: [INPUT_REQUIRED, AUTH_REQUIRED],
    to: [WORKING],
    because: "its client answered, or the agent goes on by itself",
    inLog: "`its client answered`, `reported by the agent`",
  },
  {
    from: [INPUT_REQUIRED],
    to: [AUTH_REQUIRED],
    because: "the agent asks for the other",
    inLog: "`reported by the agent`",
  },
  {
    from: [AUTH_REQUIRED],
    to: [INPUT_REQUIRED],
    because: "the agent asks for the other",
    inLog: "`reported by the agent`",
  },
  {
    from: LEASED,
    to: [SCHEDULED],
    because: "the attempt failed, and there will be another",
    inLog: "`attempt N failed: …`",
  },
  {
    from: LEASED,
    to: "itself",
    because:
      "the agent says something more; another replica has it now, because its own is dead; or its client asks to cancel it",
    inLog: "`reported by the agent`, `rescued from replica R`, `its client asks to cancel it`",
  },
  {
    from: [INPUT_REQUIRED],
    to: "itself",
    because: "the agent asks something else; or its time is up, and a replica that has room claims it to end it",
    inLog: "`reported by the agent`, `waited too long for its client`, `nobody decided about its approval in time`",
  },
  {
    from: [ASSIGNED, ...WITH_AGENT],
    to: [COMPLETED],
    because: "the agent says so; a bare Message that answers the first one says it too",
    inLog: "`reported by the agent`, `the agent answered with a message`",
  },
  {
    from: [ASSIGNED, ...WITH_AGENT],
    to: [REJECTED],
    because: "the agent says so; or whoever may approve it does not, or nobody does in time",
    inLog: "`reported by the agent`, `not approved by P`, `its approval expired`",
  },
  {
    from: [...WAITING, ASSIGNED, ...WITH_AGENT],
    to: [CANCELED],
    because: "its client cancels it; an agent that has it may also say so by itself",
    inLog: "`canceled by its client`, `reported by the agent`",
  },
  {
    from: [ASSIGNED, ...WITH_AGENT],
    to: [FAILED],
    because: "the agent says so, a time limit has passed, or the attempt failed and there may be no other",
    inLog: "`reported by the agent`, `time limit: …`, or the failure",
  },
  {
    from: WAITING,
    to: [FAILED],
    because: "its client was told that the send failed, and it was stored all the same",
    inLog: "`not acknowledged`",
  },
  { from: [NEW], to: [SCHEDULED], because: NOTHING_YET },
  { from: WAITING, to: WAITING, because: NOTHING_YET },
  { from: LEASED, to: [QUEUED], because: NOTHING_YET },
  { from: WAITING, to: [REJECTED], because: NOTHING_YET },
];

/** Throws unless these are all the ways that the domain has, each told once. `teller` is who told them. */
export function requireAllWays(teller: string, told: readonly Ways[]): void {
  const untold = new Set(single({ from: [NEW], to: INITIAL_STATES }));
  for (const [from, to] of TRANSITIONS) for (const way of single({ from: [from], to })) untold.add(way);
  const wrong = told
    .flatMap(single)
    .filter((way) => !untold.delete(way))
    .map((way) => `${way}: is not in src/domain/task-state.ts, or is told twice`);
  wrong.push(...[...untold].map((way) => `${way}: is not told`));
  if (wrong.length > 0) throw new Error(`${teller}:\n${wrong.join("\n")}`);
}

const single = ({ from, to }: Ways): string[] =>
  from.flatMap((a) => (to === "itself" ? [a] : to).map((b) => `${nameOf(a)} -> ${nameOf(b)}`));

const nameOf = (state: EngineState | typeof NEW): string => (state === NEW ? NEW : engineStateName(state));

/** The table of all ways, in Markdown. */
export function waysTable(): string {
  requireAllWays("scripts/lifecycle/ways.ts", TOLD);
  const rows = TOLD.map(({ from, to, because, inLog = "" }) => [
    from.map((state) => (state === NEW ? "*(new)*" : nameOf(state))).join(", "),
    to === "itself" ? "*itself*" : to.map(nameOf).join(", "),
    because,
    inLog,
  ]);
  return [["from", "to", "because", "what the log says"], ["---", "---", "---", "---"], ...rows]
    .map((cells) => `| ${cells.join(" | ")} |`)
    .join("\n");
}
