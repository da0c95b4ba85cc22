/** Fails each test file in which a secret was written where everybody reads it; vitest runs this before it. */
import { afterAll } from "vitest";
import { expectNoSecrets, secrets } from "./secret-scanner.ts";

afterAll(() => expectNoSecrets(secrets));
