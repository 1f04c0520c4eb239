// The messages of pkg/dashboard/wire.go. Both sides test the same golden files.
import { decode } from '@msgpack/msgpack'

export interface Hello {
  protocol: number; version: string; boot: string; node: string; now: number
  tenant: string; caller: string; exec: boolean; operator: boolean; missing?: string[]; level?: Level
}

/** How much is measured of containers of which nothing else is wanted; why is of the last change that nobody asked for. */
export interface Level { level: string; why?: string; at?: number; missing?: string[] }

export type Reply =
  | { op: 'hello'; hello: Hello }
  | { op: 'ok'; id: number; group: number; resumed?: boolean }
  | { op: 'err'; id?: number; code: string; message: string }
  | { op: 'end'; id: number }
  | { op: 'dropped'; id: number; dropped: number }
  | { op: 'level'; level: Level }

export type Topic = 'containers' | 'container' | 'events' | 'logs'

export type Request =
  | { op: 'sub'; id: number; topic: Topic; key?: string; q?: string; res?: number; from?: number; boot?: string }
  | { op: 'unsub'; id: number }
  | { op: 'ack'; n: number }
  | { op: 'pause' }
  | { op: 'resume' }

export const SNAPSHOT = 1
export const RESYNC = 3

export interface Head { g: number; s: number; t: number; k: number }

/** Columns of the table, in order; a container's columns begin with them. */
export const COL = { cpu: 0, throttled: 1, memory: 2, wait50: 3, wait99: 4, syscalls: 5, errors: 6, pids: 7 } as const
export const TABLE_COLS = 8
export const VAL = { ...COL, execs: 8, forks: 9, dropped: 10 } as const
export const HISTORY = 60

export interface RowMeta {
  r: number; id: string; name: string; image: string; status: string; restarts: number; exit: number; oom: boolean
  started: number; ended: number; cpus: number; mem: number; level?: string; labels?: Record<string, string>
}

export interface TableFrame extends Head { n: number; r: Uint8Array; c: Uint8Array[]; m?: Uint8Array; x?: number[]; h?: Uint8Array }
export interface Heat { z: number; f: number; c: Uint8Array }
export interface HeatColumn { t: number; v: Uint8Array; a: Heat; q: Heat; e?: boolean }
export interface CallTable {
  g?: boolean; u?: number; o?: number; w: number; n: Uint8Array; r: Uint8Array; e: Uint8Array; p50: Uint8Array; p99: Uint8Array; total: Uint8Array; names?: Record<string, string>
}
export interface ContainerMeta extends RowMeta {
  cmd: string; imageID: string; address: string; pid: number; created: number; tty: boolean; logs: boolean
}
export interface ContainerFrame extends Head { m?: ContainerMeta; h: HeatColumn[] | null; y?: CallTable; gone?: boolean }
export interface EventRow { t: number; a: string; x?: Record<string, string> }
export interface EventFrame extends Head { e: EventRow[] | null; lost?: number }
export interface LogRow { t: number; e?: boolean; l: string; x?: boolean }
export interface LogFrame extends Head { l: LogRow[] | null; lost?: number; end?: boolean }
export interface Frames { containers: TableFrame; container: ContainerFrame; events: EventFrame; logs: LogFrame }

/** Decodes a data frame. Which topic it is of, the caller knows by its group. */
export function decodeFrame(data: ArrayBuffer): Head {
  const v = decode(data)
  if (typeof v !== 'object' || v === null || !('g' in v) || !('s' in v) || !('k' in v)) throw new Error('not a data frame')
  return v as unknown as Head
}

const utf8 = new TextDecoder()
/** The descriptions in a table frame are JSON: the browser reads that faster than anything written in JavaScript. */
export const rowMetas = (b?: Uint8Array): RowMeta[] => (b ? JSON.parse(utf8.decode(b)) as RowMeta[] : [])

// Bytes lie at any offset, typed arrays only at multiples of their size: copy first.
const copy = (b: Uint8Array): ArrayBuffer => b.slice().buffer as ArrayBuffer
export const floats = (b: Uint8Array): Float32Array => new Float32Array(copy(b))
export const doubles = (b: Uint8Array): Float64Array => new Float64Array(copy(b))
export const u16s = (b: Uint8Array): Uint16Array => new Uint16Array(copy(b))
export const u32s = (b: Uint8Array): Uint32Array => new Uint32Array(copy(b))
/** Row numbers are as wide as they must be. */
export const rowNumbers = (b: Uint8Array, n: number): Uint16Array | Uint32Array => (b.length === 2 * n ? u16s(b) : u32s(b))
