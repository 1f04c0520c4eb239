// What /triton/v1/ask answers, added up; see docs/questions.md.
import { sum, type Counts } from './detail'

export type Metric = 'syscall' | 'block' | 'runqueue' | 'tcp'

interface Histogram { schema: number; first: number; counts?: number[] }
export interface Counted { count: number; timed: number; ns: number; bytes?: number; latency?: Histogram }
export interface AnswerRow extends Counted { key: Record<string, string> }
export interface Answer {
  at: string; seconds: number; rows: AnswerRow[]; rest?: Counted; lost?: number; containers: number; price: { runs: number; cpu: number }
  ended?: string; failed?: boolean
}

/** What each metric can be told apart by, and how it is asked about at first. */
export const METRICS: Record<Metric, { name: string; what: string; by: string[]; first: string; where: string }> = {
  syscall: {
    name: 'System calls', what: 'calls', by: ['container', 'image', 'syscall', 'errno', 'comm', 'path', 'latency'], first: 'container,syscall,latency',
    where: 'container image label:NAME syscall errno comm path latency',
  },
  block: {
    name: 'Block I/O', what: 'requests', by: ['container', 'image', 'device', 'op', 'latency'], first: 'container,device,op,latency',
    where: 'container image label:NAME device op bytes latency',
  },
  runqueue: {
    name: 'Run queue', what: 'waits', by: ['container', 'image', 'comm', 'latency'], first: 'container,comm,latency', where: 'container image label:NAME comm latency',
  },
  tcp: {
    name: 'TCP', what: 'events', by: ['container', 'image', 'event', 'remote', 'port', 'errno', 'latency'], first: 'container,event,remote,latency',
    where: 'container image label:NAME event remote port errno bytes latency',
  },
}
export const metricOf = (name: string): Metric => (name in METRICS ? name as Metric : 'syscall')

export const EXAMPLES: { title: string; metric: Metric; where: string; by: string }[] = [
  { title: 'Files that are not there', metric: 'syscall', where: 'errno=ENOENT && path=/*', by: 'container,comm,path' },
  { title: 'Calls that fail', metric: 'syscall', where: 'errno!=0 && errno!=EAGAIN', by: 'container,syscall,errno' },
  { title: 'How long syncing takes', metric: 'syscall', where: 'syscall=f*sync', by: 'container,syscall,latency' },
  { title: 'Slow writes to disks', metric: 'block', where: 'op=write && latency>10ms', by: 'container,device,latency' },
  { title: 'Who waits for a CPU', metric: 'runqueue', where: '', by: 'container,comm,latency' },
  { title: 'Connections that fail', metric: 'tcp', where: 'event=fail', by: 'container,remote,port,errno' },
]

/** Seconds kept; the longest time axis. */
const KEEP = 600
/** Rows of a second whose histograms are kept, and rows in all. */
const TOLD = 50
const ROWS = 2000
/** Answers that rates are of. */
const RECENT = 5

export interface Row { id: string; key: string[]; count: number; timed: number; ns: number; bytes: number; latency: Counts | undefined }
export interface AskedSecond { t: number; all: Counts; rows: Map<string, Counts> }

const EMPTY: Counts = { schema: 2, first: 0, n: new Uint32Array() }
const counts = (h?: Histogram): Counts => (h?.counts?.length ? { schema: h.schema, first: h.first, n: Uint32Array.from(h.counts) } : EMPTY)
const plus = (a: Counts | undefined, b: Counts): Counts => (!a?.n.length ? b : b.n.length ? sum(a, b) : a)

export class Tally {
  seconds: AskedSecond[] = []
  rows = new Map<string, Row>()
  rest: Row
  lost = 0
  elapsed = 0
  containers = 0
  price = { runs: 0, cpu: 0 }
  private recent: { seconds: number; counts: Map<string, number> }[] = []
  readonly by: string[]
  readonly latency: boolean

  constructor(by: string) {
    const all = by.split(',').map((s) => s.trim()).filter((s) => s)
    this.latency = all.includes('latency')
    this.by = all.filter((s) => s !== 'latency')
    this.rest = this.row('rest', [])
  }

  private row = (id: string, key: string[]): Row => ({ id, key, count: 0, timed: 0, ns: 0, bytes: 0, latency: undefined })

  apply(a: Answer): void {
    const second: AskedSecond = { t: Date.parse(a.at), all: EMPTY, rows: new Map() }
    const seen = new Map<string, number>()
    const add = (to: Row, c: Counted, h: Counts): void => {
      to.count += c.count
      to.timed += c.timed
      to.ns += c.ns
      to.bytes += c.bytes ?? 0
      if (this.latency) to.latency = plus(to.latency, h)
      second.all = plus(second.all, h)
      seen.set(to.id, (seen.get(to.id) ?? 0) + c.count)
    }
    for (const r of a.rows) {
      const key = this.by.map((name) => r.key[name] ?? ''), id = JSON.stringify(key)
      let row = this.rows.get(id)
      if (!row && this.rows.size < ROWS) this.rows.set(id, (row = this.row(id, key)))
      const h = counts(r.latency)
      add(row ?? this.rest, r, h)
      if (row && h.n.length && second.rows.size < TOLD) second.rows.set(id, h)
    }
    if (a.rest) add(this.rest, a.rest, counts(a.rest.latency))
    this.seconds.push(second)
    if (this.seconds.length > KEEP) this.seconds.shift()
    this.recent.push({ seconds: a.seconds, counts: seen })
    if (this.recent.length > RECENT) this.recent.shift()
    this.lost += a.lost ?? 0
    this.elapsed += a.seconds
    this.containers = a.containers
    this.price = a.price
  }

  /** Events a second, of the last answers. */
  rate(id: string): number {
    let n = 0, s = 0
    for (const r of this.recent) {
      n += r.counts.get(id) ?? 0
      s += r.seconds
    }
    return s ? n / s : NaN
  }
}

/** A column for each second, the newest is second last: an answer stands for the second that it ends in. */
export function layOut<T extends { t: number }>(seconds: T[], last: number, span: number, of: (s: T) => Counts): (Counts | undefined)[] {
  const columns: (Counts | undefined)[] = Array.from({ length: span })
  let before = 0
  for (const s of seconds) {
    // Answers come a little more than a second apart: now and then one stands for two.
    const at = Math.floor(s.t / 1000), from = before && at - before === 2 ? at - 1 : at
    for (let x = from; x <= at; x++) if (x > last - span && x <= last) columns[x - last + span - 1] = of(s)
    before = at
  }
  return columns
}
