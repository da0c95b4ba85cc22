#!/usr/bin/env node
/** The command `signalbox`: its arguments and signals; what it does is in cli/. */
import { processIo } from "./cli/io.ts";
import { run } from "./cli/run.ts";

process.exitCode = await run(process.argv.slice(2), processIo());
