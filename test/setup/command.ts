/** The bundled command, which tests start as processes of their own: it is there, and of the sources as they are. */
import { bundleIfChanged } from "../../scripts/bundle.ts";

export default bundleIfChanged;
