// The service map's numbers and where its points are drawn. The messages are those of pkg/tritonapi/wire/flows.go.
export interface End { kind: string; id?: string; name?: string; address?: string }
export interface Edge {
  from: number; to: number; port?: number; protocol?: string; opened: number; failed?: Record<string, number>; opening: number; open: number
  sentBytes: number; receivedBytes: number; retransmits: number; drops?: Record<string, number>; rtt?: number
}
export interface ServiceMap { at: string; points: End[]; edges: Edge[]; more: number }

/** What one point asks of another at a port, a second; NaN: there is one reading only. */
export interface Arrow {
  from: string; to: string; port: string; open: number; sent: number; received: number; opened: number
  failed: Record<string, number>; retransmits: number; drops: Record<string, number>; rtt: number
  /** What went wrong between the two readings; '' nothing. */
  wrong: string
}

/** A point's key: the same in every reading. */
export const keyOf = (e: End): string => e.kind + ' ' + (e.id ?? e.address ?? '')

export function labelOf(e: End): string {
  if (e.kind === 'container') return e.name ?? e.id?.slice(0, 12) ?? ''
  if (e.kind === 'address') return e.address ?? 'other addresses'
  return e.kind === 'rest' ? 'found no room' : 'other tenants'
}

const total = (counts?: Record<string, number>): number => Object.values(counts ?? {}).reduce((n, c) => n + c, 0)

/** The edges of a reading, with what came since an earlier one. */
export function arrows(before: ServiceMap | null, after: ServiceMap): Arrow[] {
  const name = (m: ServiceMap, e: Edge): string => [keyOf(m.points[e.from]!), keyOf(m.points[e.to]!), e.port ?? 0, e.protocol ?? ''].join('|')
  const had = new Map(before?.edges.map((e) => [name(before, e), e]))
  const seconds = before ? (Date.parse(after.at) - Date.parse(before.at)) / 1000 : NaN
  return after.edges.map((e) => {
    const b = had.get(name(after, e))
    const since = (now: number, then: number | undefined): number => Math.max(0, now - (then ?? 0))
    const per = (now: number, then: number | undefined): number => (seconds > 0 ? since(now, then) / seconds : NaN)
    const wrong: string[] = []
    if (before) {
      for (const [what, n] of [['failed', since(total(e.failed), total(b?.failed))], ['sent again', since(e.retransmits, b?.retransmits)], ['dropped', since(total(e.drops), total(b?.drops))]] as const) {
        if (n > 0) wrong.push(`${n} ${what}`)
      }
    }
    return {
      from: keyOf(after.points[e.from]!), to: keyOf(after.points[e.to]!), port: e.port ? `${e.port}${e.protocol === 'udp' ? '/udp' : ''}` : '',
      open: e.open + e.opening, sent: per(e.sentBytes, b?.sentBytes), received: per(e.receivedBytes, b?.receivedBytes), opened: per(e.opened, b?.opened),
      failed: e.failed ?? {}, retransmits: e.retransmits, drops: e.drops ?? {}, rtt: e.rtt ?? NaN, wrong: wrong.join(', '),
    }
  })
}

/** Arrows between the same two points are drawn as one. */
export interface Drawn { from: string; to: string; ports: string[]; bytes: number; open: number; rtt: number; wrong: string[] }

export function merged(list: Arrow[]): Drawn[] {
  const out = new Map<string, Drawn>()
  for (const a of list) {
    if (a.from === a.to) continue // in the table
    const key = a.from + '|' + a.to
    const d = out.get(key) ?? { from: a.from, to: a.to, ports: [], bytes: 0, open: 0, rtt: NaN, wrong: [] }
    if (a.port) d.ports.push(a.port)
    d.bytes += a.sent + a.received
    d.open += a.open
    if (!(a.rtt <= d.rtt) && !Number.isNaN(a.rtt)) d.rtt = a.rtt // the slowest
    if (a.wrong) d.wrong.push(a.wrong)
    out.set(key, d)
  }
  return [...out.values()]
}

/** How many points are drawn; the edges of all are in the table. */
export const POINTS_DRAWN = 48
const COLUMNS = 8

export interface Spot { key: string; column: number; row: number }

/** Who asks is left of who is asked, as far as that can be; edges that would close a circle do not count. Same input, same picture. */
export function layout(keys: string[], edges: Drawn[]): Spot[] {
  const kept = new Set(keys.slice(0, POINTS_DRAWN))
  const next = new Map<string, string[]>([...kept].map((k) => [k, []]))
  const reaches = (from: string, to: string): boolean => {
    const seen = new Set<string>(), todo = [from]
    for (let at = todo.pop(); at !== undefined; at = todo.pop()) {
      if (at === to) return true
      if (!seen.has(at)) todo.push(...next.get(at) ?? [])
      seen.add(at)
    }
    return false
  }
  for (const e of edges) {
    if (kept.has(e.from) && kept.has(e.to) && !reaches(e.to, e.from)) next.get(e.from)!.push(e.to)
  }
  const column = new Map<string, number>([...kept].map((k) => [k, 0]))
  for (let changed = true, turns = 0; changed && turns < COLUMNS; turns++) {
    changed = false
    for (const [from, tos] of next) {
      for (const to of tos) {
        const want = Math.min(COLUMNS - 1, column.get(from)! + 1)
        if (column.get(to)! < want) changed = column.set(to, want) !== undefined
      }
    }
  }
  const spots: Spot[] = []
  const rowOf = new Map<string, number>()
  for (let c = 0; c < COLUMNS; c++) {
    const askers = (key: string): number => {
      const rows = edges.filter((e) => e.to === key && rowOf.has(e.from)).map((e) => rowOf.get(e.from)!)
      return rows.length ? rows.reduce((n, r) => n + r, 0) / rows.length : 0
    }
    const here = [...kept].filter((k) => column.get(k) === c).map((key) => ({ key, at: askers(key) })).sort((a, b) => a.at - b.at || (a.key < b.key ? -1 : 1))
    here.forEach(({ key }, row) => {
      rowOf.set(key, row)
      spots.push({ key, column: c, row })
    })
  }
  return spots
}
