/** A value of a setting as one source gives it. */
export interface Given {
  value: unknown;
  /** `signalbox.yaml:3:9`, `SIGNALBOX_HTTP_PORT` or `--http-port`. */
  where: string;
}
