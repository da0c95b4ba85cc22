/** Reads what users write in YAML, or in JSON, which is YAML too. */
import { parse, YAMLError } from "yaml";

/** The value of a document. Throws an Error of one line that says where it is none. */
export function parseYamlDocument(text: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof YAMLError)) throw error;
    throw new Error(error.message.split(":\n", 1)[0]);
  }
}
