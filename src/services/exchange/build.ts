/** Puts exchanges together: an act for each kind of message. */
import type { ExchangeRepository } from "../../store/exchange-repository.ts";
import type { AgentDirectory } from "../agent-directory.ts";
import type { AgentConnector } from "../agent-port.ts";
import type { Refusals } from "../audit-refusals.ts";
import type { Policy } from "../policy.ts";
import type { RegistrySearch } from "../registry-search.ts";
import type { Routes } from "../routes.ts";
import type { DecideDeps } from "../routing/decide.ts";
import type { WorkspaceSettings } from "../routing/workspace-settings.ts";
import type { Sender } from "../send.ts";
import type { TaskExecutions } from "../task-executions.ts";
import type { Tasks } from "../tasks.ts";
import { createAgentQuotes } from "./agent-quotes.ts";
import { createExchanges, type Exchanges } from "./exchanges.ts";
import { discover, intent } from "./find-acts.ts";
import { explain, observe, verify } from "./look-acts.ts";
import { negotiate } from "./negotiate.ts";
import { createTaskActs } from "./task-acts.ts";

export interface ExchangeParts extends DecideDeps {
  settings: Pick<WorkspaceSettings, "of">;
  records: ExchangeRepository;
  registry: RegistrySearch;
  directory: AgentDirectory;
  connector: AgentConnector;
  /** The way of messages, without exchanges before it. */
  sender: Sender;
  tasks: Tasks;
  taskExecutions: TaskExecutions;
  routes: Routes;
  policy: Pick<Policy, "admit">;
  refusals: Pick<Refusals, "record">;
}

export function buildExchanges(parts: ExchangeParts): Exchanges {
  const { records, registry, directory, connector, sender, tasks, taskExecutions, routes, runtime, refusals } = parts;
  const acts = {
    discover: discover(registry, directory),
    intent: intent(directory),
    negotiate: negotiate({ ...parts, quotes: createAgentQuotes({ connector, runtime }) }),
    observe: observe(tasks),
    explain: explain(routes, taskExecutions),
    verify: verify(tasks),
    ...createTaskActs({ sender, tasks, records, runtime }),
  };
  return createExchanges({ acts, records, sender, tasks, runtime, refusals });
}
