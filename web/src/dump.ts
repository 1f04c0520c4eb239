// What /triton/v1/cores answers, and how dumps form groups. Unlike the numbers of the other views it is asked for, not pushed.

import { DASH, duration } from './format'

export interface Dump {
  id: string; kind?: string; container: string; name: string; image: string; at: string; signal: string; note?: string; comm: string
  threadCount: number; body: string; cut?: string; memoryBytes: number; storedBytes: number; place?: string; group?: string; top?: string; pauseNs?: number
}
export interface DumpThread { tid: number; comm?: string; pc: number; call?: string; calls?: RecordedCall[] }
export interface RecordedCall { at: string; text: string; result: number; error?: string; duration: number; inCall?: boolean }
export interface Reading { at: string; cpuNs: number; memory: number; pids: number; syscalls: number; errors: number }
export interface DumpRecord {
  id: string; kind?: string; container: { id: string }; name: string; image: string; imageID: string; run: number; at: string
  pid: number; nsPid: number; uid: number; comm: string; exe: string; cmdline: string[] | null; cwd: string
  signal: string; code: number; fault?: number; note?: string; body: string; cut?: string; memoryBytes: number; storedBytes: number
  threads: DumpThread[] | null; modules?: { path: string; start: number; buildID?: string; deleted?: boolean }[]
  files?: { fd: string; target: string }[]; sockets?: { fd: string; proto: string; local: string; peer: string; state: string }[]
  limits?: string; envNames?: string[]; log?: string[]; telemetry?: Reading[]; missing?: string[]
  heldForNs: number; pauseNs?: number; death?: { id: string; reason: string }
}
export interface Frame { pc: number; func?: string; file?: string; line?: number; inline?: boolean; module: number; offset?: number; kind?: string }
export interface Backtrace { goroutines?: { id: number; state: string; frames: Frame[] | null; cut?: string }[]; threads: { tid: number; comm?: string; frames: Frame[] | null; cut?: string; python?: Frame[] }[]; modules: { path: string }[] | null; missing?: string[] }

/** Asks for JSON; the error has the daemon's words. */
export async function ask<T>(path: string): Promise<T> {
  const r = await fetch('/triton/v1/' + path, { credentials: 'same-origin', headers: { Accept: 'application/json' } }).catch(() => null)
  if (!r) throw new Error('the daemon does not answer')
  const body: unknown = await r.json().catch(() => null)
  if (r.ok && body !== null) return body as T
  const message = body && typeof body === 'object' && 'message' in body ? String(body.message) : `the server answered ${r.status}`
  throw new Error(message)
}

/** What /triton/v1/core-groups says of a group: it outlives its dumps. */
export interface CrashGroup {
  id: string; state: 'new' | 'known' | 'resolved' | 'regressed'; signal: string; top: string; comm: string; count: number; countedOnly?: number; first: string; last: string
  images: Tallies; containers: Tallies
}
export interface Tallies { seen: { name: string; id?: string; count: number }[] | null; others?: number }

/** A row: a group of crashes, or what has none. state is '' of what is no group; dumps are those that are kept, newest first. */
export interface Group {
  key: string; title: string; what: string; state: CrashGroup['state'] | ''; count: number; countedOnly?: number; dumps: Dump[]; first: number; last: number
  containers: string[]; images: string[]
}

/** Dumps of one group, or else of one place in a program, are one row, and so is a group of which no dump is left. Newest first. */
export function groupDumps(dumps: Dump[], known: CrashGroup[] = []): Group[] {
  const groups = new Map<string, Group>()
  for (const d of dumps) {
    const what = d.kind ?? d.signal
    const key = d.kind ? d.id : d.group ? d.group : d.place ? what + ' ' + d.place : d.id
    const at = Date.parse(d.at)
    const g = groups.get(key)
    if (!g) {
      groups.set(key, { key, what, title: d.top || d.comm, state: '', count: 1, dumps: [d], first: at, last: at, containers: [d.name], images: [d.image] })
      continue
    }
    g.count++
    g.dumps.push(d)
    g.first = Math.min(g.first, at)
    g.last = Math.max(g.last, at)
    if (!g.containers.includes(d.name)) g.containers.push(d.name)
    if (!g.images.includes(d.image)) g.images.push(d.image)
  }
  for (const k of known) groups.set(k.id, rowOf(k, groups.get(k.id)?.dumps ?? []))
  return [...groups.values()].sort((a, b) => b.last - a.last)
}

const namesOf = (t: Tallies): string[] => [...new Set((t.seen ?? []).map((s) => s.name)), ...(t.others ? ['others'] : [])]

const rowOf = (g: CrashGroup, dumps: Dump[]): Group => ({
  key: g.id, title: g.top || g.comm, what: g.signal, state: g.state, count: g.count, countedOnly: g.countedOnly ?? 0, dumps, first: Date.parse(g.first), last: Date.parse(g.last),
  containers: namesOf(g.containers), images: namesOf(g.images),
})

export const hex = (n: number): string => '0x' + n.toString(16)

/** A frame in a line: its function, or else where it is. */
export function frameText(f: Frame, modules: { path: string }[]): string {
  const file = modules[f.module]?.path.split('/').at(-1)
  const where = f.file ? ` ${f.file.split('/').at(-1)}:${f.line}` : file ? ` ${file}+${hex(f.offset ?? 0)}` : ''
  return (f.func ?? (f.kind === 'jit' ? '[jit]' : hex(f.pc))) + where + (f.inline ? ' (inlined)' : '')
}

/** A recorded call in columns: when, milliseconds before the dump, the call, its result, how long it took. */
export function callRow(c: RecordedCall, dumped: number): string[] {
  const before = dumped - Date.parse(c.at)
  const result = c.inCall ? 'has not returned' : c.error ? '-1 ' + c.error : String(c.result)
  return [before.toFixed(before < 10 ? 1 : 0) + ' ms', c.text, result, c.duration > 0 ? duration(c.duration / 1e9) : DASH]
}

/** Rates between readings; a counter that fell began anew. */
export function rates(all: Reading[]): { t: number; cpu: number; memory: number; pids: number; syscalls: number; errors: number }[] {
  return all.slice(1).map((s, i) => {
    const b = all[i]!
    const t = Date.parse(s.at)
    const seconds = Math.max((t - Date.parse(b.at)) / 1000, 0.001)
    const per = (now: number, then: number) => Math.max(0, now - then) / seconds
    return { t, cpu: per(s.cpuNs, b.cpuNs) / 1e9, memory: s.memory, pids: s.pids, syscalls: per(s.syscalls, b.syscalls), errors: per(s.errors, b.errors) }
  })
}
