/**
 * The log of the process, on stderr: one plain line per record, or JSON through pino.
 *
 * `log` is usable from the first moment on; `configureLogging` chooses level and format. Pino is loaded only when
 * JSON is asked for, since its import alone costs more than a warm `orca run` may. JSON records name the request that
 * they are about (`request`), where there is one.
 *
 * Nothing secret may be passed in: what is logged is written as it comes.
 */
import { requestId } from './request-id.js';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const LOG_FORMATS = ['text', 'json'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export type LogFields = Record<string, unknown>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

type Severity = Exclude<LogLevel, 'silent'>;
type Sink = (severity: Severity, message: string, fields: LogFields) => void;

let threshold = LOG_LEVELS.indexOf('info');
let sink: Sink = writeText;

export const log: Logger = {
  debug: (message, fields = {}) => record('debug', message, fields),
  info: (message, fields = {}) => record('info', message, fields),
  warn: (message, fields = {}) => record('warn', message, fields),
  error: (message, fields = {}) => record('error', message, fields),
};

export function isLogged(level: LogLevel): boolean {
  return LOG_LEVELS.indexOf(level) >= threshold;
}

/** Sets level and format for the whole process. */
export async function configureLogging(options: { level: LogLevel; format: LogFormat }): Promise<void> {
  threshold = LOG_LEVELS.indexOf(options.level);
  sink = options.format === 'json' ? await openJson() : writeText;
}

/** `orca: message (key=value)`; warnings and debug records say what they are. */
export function formatText(severity: Severity, message: string, fields: LogFields): string {
  const label = severity === 'warn' ? 'warning: ' : severity === 'debug' ? 'debug: ' : '';
  const details = Object.entries(fields).map(([key, value]) => `${key}=${formatValue(value)}`);
  return `orca: ${label}${oneLine(message)}${details.length > 0 ? ` (${details.join(', ')})` : ''}\n`;
}

function record(severity: Severity, message: string, fields: LogFields): void {
  if (LOG_LEVELS.indexOf(severity) >= threshold) sink(severity, message, fields);
}

function writeText(severity: Severity, message: string, fields: LogFields): void {
  process.stderr.write(formatText(severity, message, fields));
}

function formatValue(value: unknown): string {
  if (value instanceof Error) return oneLine(value.message);
  return oneLine(typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value)));
}

/** Names come from images and servers: control characters must not reach the terminal. */
export function oneLine(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ').trim();
}

async function openJson(): Promise<Sink> {
  const { destination, pino } = await import('pino');
  const stream = destination({ fd: 2, sync: true });
  const logger = pino({ level: 'debug', base: { pid: process.pid } }, stream);
  return (severity, message, fields) => {
    const request = requestId();
    logger[severity](request === undefined ? fields : { request, ...fields }, message);
  };
}
