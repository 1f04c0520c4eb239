// One container's seconds, system calls, events and log, as its view shows them.
import {
  doubles, floats, SNAPSHOT, u16s, u32s, RESYNC, type CallTable, type ContainerFrame, type ContainerMeta, type EventFrame, type EventRow, type Heat, type LogFrame, type LogRow,
} from './wire'

/** Seconds kept; the longest time axis. */
const KEEP = 600
export const LOG_LINES = 1000
const EVENT_ROWS = 500

export interface Counts { schema: number; first: number; n: Uint32Array }
/** Of a second whose system calls are estimates, guessed is set. */
export interface Second { t: number; v: Float32Array; calls: Counts; waits: Counts; guessed?: boolean }
export interface CallRow { nr: number; name: string; rate: number; errors: number; p50: number; p99: number; total: number }

const counts = (h: Heat): Counts => ({ schema: h.z, first: h.f, n: u32s(h.c) })

export class Detail {
  meta: ContainerMeta | undefined
  seconds: Second[] = []
  calls: CallRow[] = []
  callSeconds = 0
  /** Rates of the table of calls are estimates; so are totals, for this share of the time. */
  callsGuessed = false
  totalsGuessed = 0
  /** The share by which the sum of totals may be off, in all but 5 of 100 cases; 0: not known. */
  callsOff = 0
  gone = false
  private names: Record<string, string> = {}

  apply(f: ContainerFrame): void {
    if (f.m) this.meta = f.m
    if (f.gone) this.gone = true
    for (const c of f.h ?? []) {
      // What is here already stays, also over a restart of the daemon: what is missing between is a hole in the axis.
      const last = this.seconds.at(-1)
      if (last && c.t <= last.t) continue
      this.seconds.push({ t: c.t, v: floats(c.v), calls: counts(c.a), waits: counts(c.q), ...(c.e && { guessed: true }) })
    }
    if (this.seconds.length > KEEP) this.seconds.splice(0, this.seconds.length - KEEP)
    if (f.y) this.takeCalls(f.y)
  }

  private takeCalls(y: CallTable): void {
    Object.assign(this.names, y.names)
    const rate = floats(y.r), errors = floats(y.e), p50 = floats(y.p50), p99 = floats(y.p99), total = doubles(y.total)
    this.callSeconds = y.w
    this.callsGuessed = y.g ?? false
    this.totalsGuessed = y.u ?? 0
    this.callsOff = y.o ?? 0
    this.calls = Array.from(u16s(y.n), (nr, i) => ({
      nr, name: this.names[nr] ?? String(nr), rate: rate[i]!, errors: errors[i]!, p50: p50[i]!, p99: p99[i]!, total: total[i]!,
    }))
  }
}

export class EventList {
  rows: EventRow[] = []
  lost = 0
  apply(f: EventFrame): void {
    if (f.k === SNAPSHOT || f.k === RESYNC) {
      this.rows = []
      this.lost = 0
    }
    this.rows.push(...(f.e ?? []))
    this.lost += f.lost ?? 0
    if (this.rows.length > EVENT_ROWS) this.rows.splice(0, this.rows.length - EVENT_ROWS)
  }
}

export class LogList {
  rows: LogRow[] = []
  skipped = 0
  ended = false
  /** Lines that were let go at the front: keys of rows count from it. */
  base = 0
  apply(f: LogFrame): void {
    if (f.k === SNAPSHOT || f.k === RESYNC) {
      this.base += this.rows.length
      this.rows = []
    }
    this.rows.push(...(f.l ?? []))
    this.skipped += f.lost ?? 0
    this.ended = f.end ?? false
    const over = this.rows.length - LOG_LINES
    if (over > 0) {
      this.rows.splice(0, over)
      this.base += over
    }
  }
}

/** A sample stands for the time since the one before; more than this apart, nothing is known of most of it. */
const HOLE = 3500

/** Lays samples out by whole seconds, beginning with second first. A late sample fills all seconds that it stands for, two in one
 * second are added up, and a second that none stands for is a hole. */
export function toColumns(all: Second[], first: number, span: number): (Second | undefined)[] {
  const columns: (Second | undefined)[] = Array.from({ length: span })
  for (let i = all.length - 1; i >= 0; i--) {
    const s = all[i]!
    if (s.t < first * 1000) break
    const gap = i ? s.t - all[i - 1]!.t : 1000
    const from = s.t - (gap > HOLE ? 1000 : gap)
    let placed = false
    for (let x = Math.max(0, Math.floor(from / 1000 - 0.5) + 1 - first); x < span && (first + x + 0.5) * 1000 <= s.t; x++) {
      columns[x] = s
      placed = true
    }
    const x = Math.floor(s.t / 1000) - first
    const there = columns[x]
    if (!placed && x < span) columns[x] = there ? { ...there, calls: sum(there.calls, s.calls), waits: sum(there.waits, s.waits) } : s
  }
  return columns
}

export function sum(a: Counts, b: Counts): Counts {
  if (a.schema !== b.schema) return a.schema > b.schema ? a : b
  const first = Math.min(a.first, b.first), n = new Uint32Array(Math.max(a.first + a.n.length, b.first + b.n.length) - first)
  for (const c of [a, b]) c.n.forEach((v, i) => (n[c.first + i - first]! += v))
  return { schema: a.schema, first, n }
}

/** Upper bound of bucket i in seconds: Prometheus' native histograms. */
export const bound = (schema: number, index: number): number => 2 ** (index / 2 ** schema)

/** Smallest bound that a share q of what was counted does not exceed; NaN: nothing was counted. */
export function quantile(c: Counts, q: number): number {
  let total = 0
  for (const n of c.n) total += n
  if (!total) return NaN
  const rank = Math.ceil(q * total)
  let seen = 0
  for (let i = 0; i < c.n.length; i++) {
    seen += c.n[i]!
    if (seen >= rank && c.n[i]) return bound(c.schema, c.first + i)
  }
  return NaN
}

// Control sequences of terminals: colours, cursor, titles. What is left of other control characters is shown as a mark.
const ESCAPES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])/g
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]/g
export const plainText = (s: string): string => s.replace(ESCAPES, '').replace(/\r$/, '').replace(CONTROLS, '·')
