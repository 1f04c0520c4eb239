// One container: numbers, four heatmaps on one time axis, and a tab with one part in detail.
import { useSignal } from '@preact/signals'
import { LazyTerminal } from './lazy'
import { useEffect, useLayoutEffect, useMemo, useRef } from 'preact/hooks'
import { Calls } from './calls'
import { Lifetime } from './containers'
import { Detail, type Second } from './detail'
import { DisksTab, gains, type Disks } from './disks'
import { DnsTab } from './dns'
import { Ends } from './ends'
import { about, bytes, cores, DASH, duration, percent, rate, whole } from './format'
import { drawn, redraw } from './frame'
import { Flame } from './flame'
import { HeatGroup } from './heat'
import { Events, Logs } from './lists'
import { NetworkTab, type Network } from './network'
import { keepGain, since, useReadings, type Gain } from './reading'
import { href, open, pausedAt, span, TABS, type Tab } from './route'
import { Link, viewKeys } from './shell'
import { connection, flowing, hello, newest, subscribe } from './socket'
import { TraceTab } from './trace'
import { Waits } from './waits'
import { VAL, type ContainerMeta } from './wire'

export function ContainerView({ id, tab }: { id: string; tab: Tab }) {
  const detail = useMemo(() => new Detail(), [])
  const heat = useMemo((): Record<'disks' | 'rtt', Gain[]> => ({ disks: [], rtt: [] }), [])
  const problem = useSignal('')
  useEffect(() => subscribe('container', { key: id }, {
    frame(f) {
      detail.apply(f)
      problem.value = ''
      redraw()
    },
    error: (code, message) => (problem.value = code === 'not_found' ? 'There is no such container, or it is not yours.' : message),
  }), [])
  useLayoutEffect(() => {
    viewKeys.value = (key) => key === 'Escape' && open('/c')
    return () => void (viewKeys.value = null)
  }, [])
  const disks = useReadings<Disks>(`containers/${encodeURIComponent(id)}/disks`, 1000, (before, now) => keepGain(heat.disks, before, now, gains(before, now).map(({ disk, was }) => since(was?.durations, disk.durations)))).value
  const network = useReadings<Network>(`containers/${encodeURIComponent(id)}/network`, 1000, (before, now) => keepGain(heat.rtt, before, now, [since(before.rtt, now.rtt)])).value
  drawn.value
  const m = detail.meta, runs = !m || m.status === 'running'
  useEffect(() => {
    flowing.value = runs && !detail.gone
    return () => void (flowing.value = true)
  }, [runs, detail.gone])
  if (problem.value && !m) {
    return <div class="notice"><h1>{id}</h1><p class="error">{problem.value}</p><p><Link path="/c">All containers</Link></p></div>
  }
  if (!m) return <div class="notice" aria-busy="true" />
  const end = pausedAt.value || axisEnd(detail), noBlock = hello.value?.missing?.includes('block_ios') ?? false
  return (
    <article class={'container' + (connection.value.kind === 'live' ? '' : ' stale')} data-seconds={detail.seconds.length}>
      <div class="title">
        <Link path="/c" class="back" label="All containers">‹</Link>
        <h1>{m.name}</h1>
        <Status m={m} />
        <span class="facts">
          <span><Lifetime m={m} /></span><span>{m.image}</span><span class="mono">{m.id.slice(0, 12)}</span>
          {m.address && <span class="mono">{m.address.split('/')[0]}</span>}{m.pid > 0 && <span>pid {m.pid}</span>}
          {m.level && m.level !== 'detail' && <span class="level" title={LEVELS[m.level]}>measured: {m.level}</span>}
          {m.restarts > 0 && <span class="alarm">{m.restarts} restarts</span>}<span class="mono cmd" title={m.cmd}>{m.cmd}</span>
        </span>
      </div>
      {detail.gone && <p class="banner alarm" role="status">This container was removed. What is shown is the last that was seen of it.</p>}
      <Stats detail={detail} end={end} />
      <HeatGroup seconds={detail.seconds} end={end} span={span.value} running={m.status === 'running'} read={[
        { slot: DISKS, gains: heat.disks, why: noBlock ? 'not measured here: the kernel refused the program' : disks.problem }, { slot: RTT, gains: heat.rtt, why: network.problem },
      ]} />
      <Tabs id={id} tab={tab} exec={hello.value?.exec ?? true} />
      <div class="panel" id="panel" role="tabpanel" aria-labelledby={'tab-' + tab}>
        {tab === 'syscalls' && <Calls detail={detail} />}
        {tab === 'waits' && <Waits id={m.id} level={m.level ?? ''} />}
        {tab === 'disks' && <DisksTab readings={disks} unmeasured={noBlock} />}
        {tab === 'network' && <NetworkTab readings={network} level={m.level ?? ''} />}
        {tab === 'dns' && <DnsTab id={m.id} />}
        {tab === 'trace' && <TraceTab id={m.id} running={m.status === 'running'} />}
        {tab === 'events' && <Events id={id} />}
        {tab === 'ends' && <Ends id={m.id} />}
        {tab === 'logs' && <Logs id={id} readable={m.logs} />}
        {tab === 'profile' && <Flame id={m.id} running={m.status === 'running'} />}
        {tab === 'exec' && <LazyTerminal id={m.id} running={m.status === 'running'} />}
      </div>
    </article>
  )
}

/** One that failed leads to why. */
function Status({ m }: { m: ContainerMeta }) {
  const failed = m.oom || (m.status === 'exited' && m.exit !== 0)
  const text = <>{m.status}{m.status === 'exited' && ' ' + m.exit}{m.oom && ', out of memory'}</>
  return failed ? <Link path={`/c/${m.id.slice(0, 12)}/ends`} class="badge alarm">{text}</Link> : <span class={'badge ' + m.status}>{text}</span>
}

/** The axis ends now; while nothing comes, it goes on, and what is missing is seen. */
function axisEnd(d: Detail): number {
  const last = d.seconds.at(-1)?.t ?? 0
  if (!last) return Date.now()
  const now = connection.value.kind === 'live' && newest && Date.now() - newest < 3000 ? last : Date.now()
  return Math.max(last, d.gone ? last : now)
}

const DISKS = { key: 'disks', title: 'Block I/O latency', what: 'requests' }
const RTT = { key: 'rtt', title: 'TCP round trip', what: 'samples' }

const LEVELS: Record<string, string> = {
  sampled: 'System calls are counted one second of every ten: numbers with ~ are estimates. The flight recorder is empty.',
  counters: 'System calls are not counted. The flight recorder is empty.',
  off: 'System calls and waits for a CPU are not counted. The flight recorder is empty.',
}

const TILES: { title: string; col: number; format: (v: number) => string; limit?: (d: Detail) => string; calls?: boolean }[] = [
  { title: 'CPU, cores', col: VAL.cpu, format: cores, limit: (d) => (d.meta?.cpus ? 'of ' + d.meta.cpus : '') },
  { title: 'Throttled', col: VAL.throttled, format: percent },
  { title: 'Memory', col: VAL.memory, format: bytes, limit: (d) => (d.meta?.mem ? 'of ' + bytes(d.meta.mem) : '') },
  { title: 'Run-queue p99', col: VAL.wait99, format: duration },
  { title: 'Syscalls/s', col: VAL.syscalls, format: rate, calls: true },
  { title: 'Errors/s', col: VAL.errors, format: rate, calls: true },
  { title: 'Processes', col: VAL.pids, format: whole },
]

function Stats({ detail, end }: { detail: Detail; end: number }) {
  const at = lastBefore(detail.seconds, end)
  const lost = detail.seconds.reduce((n, s) => n + (s.v[VAL.dropped] || 0), 0)
  return (
    <dl class="tiles">
      {TILES.map((t) => (
        <div key={t.title} data-tile={t.title}>
          <dt>{t.title}</dt>
          <dd><b>{at ? about(t.format(mean(detail.seconds, at, t.col)), t.calls && detail.seconds[at - 1]!.guessed) : DASH}</b> <small>{t.limit?.(detail)}</small></dd>
          <Spark seconds={detail.seconds} end={end} col={t.col} />
        </div>
      ))}
      {lost > 0 && <div class="alarm"><dt>Not recorded</dt><dd><b>{rate(lost)}</b> <small>observations</small></dd></div>}
    </dl>
  )
}

/** Index of the last second at or before a moment; 0: none, or the first. */
function lastBefore(all: Second[], end: number): number {
  let i = all.length
  while (i > 0 && all[i - 1]!.t > end) i--
  return i
}

/** Mean of the five seconds before index n. */
function mean(all: Second[], n: number, col: number): number {
  let sum = 0, k = 0
  for (const s of all.slice(Math.max(0, n - 5), n)) {
    const v = s.v[col]!
    if (!Number.isNaN(v)) {
      sum += v
      k++
    }
  }
  return k ? sum / k : NaN
}

function Spark({ seconds, end, col }: { seconds: Second[]; end: number; col: number }) {
  const w = span.value
  let most = 0
  const points = seconds.filter((s) => s.t > end - w * 1000 && s.t <= end)
  for (const s of points) most = Math.max(most, s.v[col] || 0)
  let d = '', last = 0
  for (const s of points) {
    const v = s.v[col]!
    if (Number.isNaN(v)) {
      last = 0
      continue
    }
    d += (last && s.t - last < 2500 ? 'L' : 'M') + (w - (end - s.t) / 1000).toFixed(1) + ' ' + (22 - 20 * (most ? v / most : 0)).toFixed(1)
    last = s.t
  }
  return <svg class="line" viewBox={`0 0 ${w} 24`} preserveAspectRatio="none" aria-hidden="true"><path d={d} /></svg>
}

function Tabs({ id, tab, exec }: { id: string; tab: Tab; exec: boolean }) {
  const box = useRef<HTMLDivElement>(null)
  const names: Record<Tab, string> = {
    syscalls: 'System calls', waits: 'Waits', disks: 'Disks', network: 'Network', dns: 'DNS', trace: 'Trace', profile: 'Profile', events: 'Events', ends: 'Ends', logs: 'Logs', exec: 'Terminal',
  }
  const shown = TABS.filter((t) => exec || t !== 'exec')
  const go = (t: Tab) => open(`/c/${id}/${t}`, true)
  return (
    <div class="tabs" role="tablist" aria-label="Details" ref={box} onKeyDown={(e) => {
      const by = e.key === 'ArrowRight' ? 1 : e.key === 'ArrowLeft' ? -1 : 0
      if (!by) return
      const next = shown[(shown.indexOf(tab) + by + shown.length) % shown.length]!
      go(next)
      box.current?.querySelector<HTMLElement>('#tab-' + next)?.focus()
    }}>
      {shown.map((t) => (
        <a key={t} id={'tab-' + t} role="tab" aria-selected={t === tab} aria-controls="panel" tabIndex={t === tab ? 0 : -1} href={href(`/c/${id}/${t}`)}
          onClick={(e) => {
            if (e.ctrlKey || e.metaKey) return
            e.preventDefault()
            go(t)
          }}>{names[t]}</a>
      ))}
    </div>
  )
}

