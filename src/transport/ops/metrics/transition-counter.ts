/** Counts status updates of tasks, for a bounded number of agents. */
import { Counter, type Registry } from "prom-client";

/** Agents whose transitions a page shows at most: those that were longest without one go first. */
const MOST_AGENTS = 1_000;

/** Returns what counts a transition of an agent to a state. */
export function transitionCounter(registry: Registry): (workspaceId: string, agentId: string, state: string) => void {
  /**
   * Transitions by agent, as `<workspace>/<agent>`, and state since the last page. prom-client makes a key of the labels at each count, which tasks
   * would feel.
   */
  const uncounted = new Map<string, Map<string, number>>();
  /** The states that are counted of each agent; the agent that was longest without a transition comes first. */
  const counted = new Map<string, Set<string>>();
  const transitions = new Counter({
    name: "signalbox_task_transitions_total",
    help: "Status updates of tasks by workspace, agent and state.",
    labelNames: ["workspace", "agent", "state"],
    registers: [registry],
    collect: count,
  });

  function count(): void {
    for (const [agent, states] of uncounted) {
      const before = counted.get(agent);
      counted.delete(agent);
      counted.set(agent, new Set([...(before ?? []), ...states.keys()]));
      for (const [state, times] of states) transitions.inc({ ...labelsOf(agent), state }, times);
    }
    uncounted.clear();
    for (const [agent, states] of counted) {
      if (counted.size <= MOST_AGENTS) break;
      counted.delete(agent);
      for (const state of states) transitions.remove({ ...labelsOf(agent), state });
    }
  }

  return (workspaceId, agentId, state) => {
    const key = `${workspaceId}/${agentId}`;
    let states = uncounted.get(key);
    if (!states) {
      // Perhaps nobody asks for pages.
      if (uncounted.size >= MOST_AGENTS) count();
      states = new Map();
      uncounted.set(key, states);
    }
    states.set(state, (states.get(state) ?? 0) + 1);
  };
}

function labelsOf(key: string): { workspace: string; agent: string } {
  const [workspace = "", agent = ""] = key.split("/");
  return { workspace, agent };
}
