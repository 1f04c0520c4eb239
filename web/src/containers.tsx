// The table of all containers. Rows are drawn for what is visible; order follows the five-second averages.
import { useSignal } from '@preact/signals'
import { useEffect, useLayoutEffect, useMemo, useRef } from 'preact/hooks'
import { matches, parseFilter } from './filter'
import { about, ago, bytes, clock, cores, duration, percent, rate, whole } from './format'
import { drawn, parts, redraw, second } from './frame'
import { open, param, pausedAt, setParams } from './route'
import { Link, viewKeys } from './shell'
import { connection, subscribe } from './socket'
import { Table } from './table'
import { COL, HISTORY, type RowMeta } from './wire'

const ROW = 28
/** The order changes at most this often, ms: a table that jumps cannot be read. */
const RESORT = 2000
/** Rows that one frame draws at most, of those that come into view first and of those that new numbers change. */
const FRAME_ROWS = 12

interface Column {
  key: string; title: string; hint: string; num: boolean
  sort: (t: Table, r: number, m: RowMeta) => number | string
  text: (t: Table, r: number, m: RowMeta) => string
  /** Marks what needs a look. */
  alarm?: (t: Table, r: number, m: RowMeta) => boolean
}

const number = (key: string, title: string, hint: string, col: number, format: (v: number) => string, alarm?: (v: number, m: RowMeta) => boolean, calls?: boolean): Column => ({
  key, title, hint, num: true, sort: (t, r) => t.average(r, col), text: (t, r, m) => about(format(t.average(r, col)), calls && m.level === 'sampled'),
  ...(alarm && { alarm: (t: Table, r: number, m: RowMeta) => alarm(t.average(r, col), m) }),
})

const COLUMNS: Column[] = [
  { key: 'name', title: 'Name', hint: '', num: false, sort: (_t, _r, m) => m.name, text: (_t, _r, m) => m.name },
  { key: 'state', title: 'State', hint: '', num: false, sort: (_t, _r, m) => m.status, text: (_t, _r, m) => status(m), alarm: (_t, _r, m) => m.oom || (m.status === 'exited' && m.exit !== 0) },
  number('cpu', 'CPU', 'cores, mean of 5 s', COL.cpu, cores),
  number('throttled', 'Throttled', 'share of time in which the CPU limit held it back', COL.throttled, percent, (v) => v > 0.05),
  number('mem', 'Memory', 'working set', COL.memory, bytes, (v, m) => m.mem > 0 && v > 0.9 * m.mem),
  number('wait50', 'Wait p50', 'run queue: time from wanting a CPU to having one', COL.wait50, duration),
  number('wait', 'Wait p99', 'run queue: time from wanting a CPU to having one', COL.wait99, duration, (v) => v > 0.01),
  number('syscalls', 'Syscalls/s', 'system calls per second; ~ is an estimate', COL.syscalls, rate, undefined, true),
  number('errors', 'Errors/s', 'system calls that failed, per second; ~ is an estimate', COL.errors, rate, undefined, true),
  { key: 'restarts', title: 'Restarts', hint: 'starts after the first', num: true, sort: (_t, _r, m) => m.restarts, text: (_t, _r, m) => whole(m.restarts), alarm: (_t, _r, m) => m.restarts > 0 },
]

function status(m: RowMeta): string {
  if (m.status !== 'exited') return m.status
  return m.oom ? 'OOM killed' : 'exited ' + m.exit
}

/** Rows that pass the filter, in order. */
function arrange(t: Table, q: string, sort: string): number[] {
  const f = parseFilter(q)
  const down = sort.startsWith('-')
  const column = COLUMNS.find((c) => c.key === sort.replace('-', '')) ?? COLUMNS[2]!
  const rows: { r: number; m: RowMeta; v: number | string }[] = []
  t.meta.forEach((m, r) => {
    if (m && (!f.ok || matches(f.terms, m, (col) => t.average(r, col)))) rows.push({ r, m, v: column.sort(t, r, m) })
  })
  const unknown = (v: number | string) => typeof v === 'number' && Number.isNaN(v)
  rows.sort((a, b) => {
    const ua = unknown(a.v), ub = unknown(b.v)
    if (ua !== ub) return ua ? 1 : -1 // unknown last in both directions
    const order = ua ? 0 : a.v < b.v ? -1 : a.v > b.v ? 1 : 0
    return (down ? -order : order) || (a.m.name < b.m.name ? -1 : 1)
  })
  return rows.map((x) => x.r)
}

export function ContainersView() {
  const table = useMemo(() => new Table(), [])
  const problem = useSignal('')
  const late = useSignal(false)
  useEffect(() => {
    const timer = setTimeout(() => (late.value = true), 200)
    const leave = subscribe('containers', {}, {
      frame(f) {
        table.apply(f)
        problem.value = ''
        redraw()
      },
      error: (_code, message) => (problem.value = message),
    })
    return () => {
      clearTimeout(timer)
      leave()
    }
  }, [])
  if (problem.value) return <div class="notice"><h1>No list</h1><p class="error">{problem.value}</p></div>
  return <TableView table={table} late={late.value} />
}

/** What is drawn at each place. It changes in place, and rows follow in their turn; a new stamp makes all follow at once. */
interface Order { rows: number[]; at: number; key: string; size: number; stamp: number }
interface Frozen { rows: number[]; at: number; cells: Map<number, { m: RowMeta; texts: string[]; alarms: boolean[]; path: string }> }

function TableView({ table, late }: { table: Table; late: boolean }) {
  const scroller = useRef<HTMLDivElement>(null)
  const top = useSignal(0), height = useSignal(800)
  const inside = useRef(false), focused = useRef(false) // of the pointer and the focus: what they point at stays
  const order = useRef<Order>({ rows: [], at: 0, key: '', size: 0, stamp: 0 })
  const most = useSignal(FRAME_ROWS)
  const frozen = useRef<Frozen | null>(null)
  const picked = useSignal(-1)

  useEffect(() => {
    const el = scroller.current
    if (!el) return
    const watch = new ResizeObserver(() => (height.value = el.clientHeight))
    watch.observe(el)
    return () => watch.disconnect()
  }, [table.ready])

  drawn.value
  const paused = pausedAt.value > 0
  const q = param('q'), sort = param('sort') || '-cpu'
  const rows = order.current.rows = paused && frozen.current ? frozen.current.rows : inOrder()
  if (!paused) frozen.current = null
  else if (!frozen.current && table.ready) frozen.current = { rows, at: table.time, cells: new Map() }

  function inOrder(): number[] {
    const o = order.current, key = q + '\0' + sort, now = performance.now(), other = o.key !== key || o.size !== table.size
    if (!other && (now - o.at <= RESORT || inside.current || focused.current)) return o.rows.filter((r) => table.meta[r])
    Object.assign(o, { at: now, key, size: table.size, stamp: o.stamp + (other ? 1 : 0) })
    return arrange(table, q, sort)
  }

  const first = Math.max(0, Math.floor(top.value / ROW) - 4)
  const fits = Math.min(rows.length - first, Math.ceil(height.value / ROW) + 8)
  const shown = Math.min(fits, most.value)
  useEffect(() => {
    if (!table.ready || shown === fits) return
    const frame = requestAnimationFrame(() => (most.value += FRAME_ROWS))
    return () => cancelAnimationFrame(frame)
  })

  const show = (i: number) => {
    picked.value = i
    const el = scroller.current
    if (!el) return
    if (i * ROW < el.scrollTop) el.scrollTop = i * ROW
    else if ((i + 2) * ROW > el.scrollTop + el.clientHeight) el.scrollTop = (i + 2) * ROW - el.clientHeight
  }
  useLayoutEffect(() => {
    viewKeys.value = (key) => { // between two drawings there may be other rows
      const { rows } = order.current
      if (key === 'j') show(Math.min(picked.value + 1, rows.length - 1))
      else if (key === 'k') show(Math.max(picked.value - 1, 0))
      else if (key === 'Escape') picked.value = -1
      else if (key === 'Enter') {
        const m = table.meta[rows[picked.value] ?? -1]
        if (m) open('/c/' + m.id.slice(0, 12))
      }
    }
    return () => void (viewKeys.value = null)
  })

  if (!table.ready) return <div class="notice" aria-busy="true">{late && <Skeleton />}</div>
  const stale = connection.value.kind !== 'live'
  return (
    <section class={'containers' + (stale ? ' stale' : '')} aria-label="Containers">
      <h1 class="hidden">Containers</h1>
      <Summary table={table} shown={rows.length} at={paused ? frozen.current?.at ?? 0 : 0} />
      {rows.length === 0 ? <Empty all={table.size} /> : (
        <div class="grid" role="grid" aria-label="Containers" aria-rowcount={rows.length + 1} aria-colcount={COLUMNS.length + 1}>
          <div class="scroll" ref={scroller} tabIndex={0} role="rowgroup" aria-label="Rows, scrollable" onScroll={(e) => (top.value = e.currentTarget.scrollTop)}
            onPointerEnter={() => (inside.current = true)} onPointerLeave={() => (inside.current = false)}
            onFocusIn={(e) => (focused.current = e.target !== e.currentTarget)} onFocusOut={() => (focused.current = false)}>
            <div class="row head" role="row" aria-rowindex={1}>{COLUMNS.map((c) => <Header key={c.key} c={c} sort={sort} />)}<span role="columnheader" class="spark">CPU, 60 s</span></div>
            <div style={{ height: first * ROW + 'px' }} role="presentation" />
            {Array.from({ length: shown }, (_, i) => (
              <Row key={first + i} table={table} order={order.current} stamp={order.current.stamp} index={first + i} picked={picked.value === first + i} frozen={frozen.current} />
            ))}
            <div style={{ height: (rows.length - first - shown) * ROW + 'px' }} role="presentation" />
          </div>
        </div>
      )}
    </section>
  )
}

function Header({ c, sort }: { c: Column; sort: string }) {
  const active = sort.replace('-', '') === c.key
  const down = sort.startsWith('-')
  const next = active ? (down ? c.key : '-' + c.key) : c.num ? '-' + c.key : c.key
  return (
    <span role="columnheader" class={c.num ? 'num' : c.key === 'name' ? 'name' : ''} aria-sort={active ? (down ? 'descending' : 'ascending') : 'none'}>
      <button type="button" title={c.hint} onClick={() => setParams({ sort: next === '-cpu' ? '' : next })}>{c.title}<i aria-hidden="true">{active ? (down ? '▾' : '▴') : ''}</i></button>
    </span>
  )
}

interface RowProps { table: Table; order: Order; stamp: number; index: number; picked: boolean; frozen: Frozen | null }

function Row({ table, order, index, picked, frozen }: RowProps) {
  parts[Math.floor(index / FRAME_ROWS) % parts.length]!.value
  const r = order.rows[index] ?? -1
  const live = () => {
    const m = table.meta[r]!
    return { m, texts: COLUMNS.map((c) => c.text(table, r, m)), alarms: COLUMNS.map((c) => c.alarm?.(table, r, m) ?? false), path: curve(table, r, m.cpus) }
  }
  let cell = frozen?.cells.get(r)
  if (!cell) {
    if (!table.meta[r]) return null
    cell = live()
    frozen?.cells.set(r, cell)
  }
  const { m, texts, alarms, path } = cell
  return (
    <div class={'row' + (picked ? ' picked' : '') + (m.status === 'running' ? '' : ' off')} role="row" aria-rowindex={index + 2} aria-selected={picked} data-id={m.id}>
      <span role="gridcell" class="name"><Link path={'/c/' + m.id.slice(0, 12)}>{m.name}</Link><em>{m.image}</em></span>
      <span role="gridcell" class={'badge ' + (alarms[1] ? 'alarm' : m.status)}>{texts[1]}</span>
      {COLUMNS.slice(2).map((c, i) => <span key={c.key} role="gridcell" class={'num' + (alarms[i + 2] ? ' alarm' : '')} data-col={c.key}>{texts[i + 2]}</span>)}
      <span role="gridcell" class="spark"><svg viewBox={`0 0 ${HISTORY} 20`} preserveAspectRatio="none" aria-hidden="true"><path d={path} /></svg></span>
    </div>
  )
}

/** CPU of the last minute as a path; what is not known is a hole. The scale is the limit, or the highest of it. */
function curve(t: Table, r: number, limit: number): string {
  let most = limit || 0.1
  for (let i = 0; i < HISTORY; i++) most = Math.max(most, t.history(r, i) || 0)
  let d = '', pen = 'M'
  for (let i = 0; i < HISTORY; i++) {
    const v = t.history(r, i)
    if (Number.isNaN(v)) {
      pen = 'M'
      continue
    }
    d += pen + i + ' ' + (19 - 18 * v / most).toFixed(1)
    pen = 'L'
  }
  return d
}

function Summary({ table, shown, at }: { table: Table; shown: number; at: number }) {
  let cpu = 0, mem = 0, running = 0, bad = 0
  table.meta.forEach((m, r) => {
    if (!m) return
    if (m.status === 'running') running++
    if (m.oom || (m.status === 'exited' && m.exit !== 0)) bad++
    cpu += table.average(r, COL.cpu) || 0
    mem += table.average(r, COL.memory) || 0
  })
  return (
    <div class="summary">
      <span><b>{shown}</b>{shown === table.size ? ' containers' : ` of ${table.size} containers`}</span>
      <span><b>{running}</b> running</span>
      {bad > 0 && <span class="alarm"><b>{bad}</b> failed</span>}
      <span><b>{cores(cpu)}</b> cores</span>
      <span><b>{bytes(mem)}</b></span>
      {at > 0 && <span class="paused">paused, numbers of {clock(at)}</span>}
    </div>
  )
}

function Empty({ all }: { all: number }) {
  if (all) {
    return <div class="notice"><h2>Nothing matches</h2><p>{all} containers are hidden by the filter <code>{param('q')}</code>.</p>
      <button type="button" class="strong" onClick={() => setParams({ q: '' })}>Clear the filter</button></div>
  }
  return <div class="notice"><h2>No containers yet</h2><p>Run one, and it appears here within a second:</p><pre>docker run -d --name web nginx</pre></div>
}

const Skeleton = () => <div class="skeleton">{Array.from({ length: 12 }, (_, i) => <div key={i} />)}<p class="hidden">Loading containers</p></div>

/** How long a container has run, or since when it does not. */
export function Lifetime({ m }: { m: RowMeta }) {
  second.value
  if (m.status === 'running' || m.status === 'paused') return <>up {ago(Date.now() - m.started)}</>
  return m.ended ? <>ended {ago(Date.now() - m.ended)} ago</> : <>never started</>
}
