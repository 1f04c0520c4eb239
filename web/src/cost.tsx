// What the daemon and its programs in the kernel cost this machine, and what they lost. For operators.
import { plainText } from './detail'
import { ago, bytes, cores, DASH, duration, percent, rate, whole } from './format'
import { between, gained, useReadings } from './reading'
import { Refused } from './refused'
import { Link } from './shell'
import { hello } from './socket'

interface Probes {
  at: string; level: string; share: number; price: number; burden: number; tax: number; drops: Record<string, number>
  programs: { program: string; runs: number; cpu: number }[]; missing: { program: string; reason: string }[]
  containers: { id: string; name: string; tenant: string; events: number; cpu: number; dropped: number }[]
  stepping?: { budget: number; steps: number; estimates: Record<string, number>; last?: { at: string; from: string; to: string; why: string } }
}
interface Vars { at: string; cpuSeconds: number; rssBytes: number; mapBytes: number; goroutines: number; fds: number; heapBytes: number; containers: number }

/** Reasons of triton_dropped_total, in the words of docs/metrics.md. */
const LOST: Record<string, string> = {
  ring: 'records of processes’ lives: the ring was full', queue: 'the same: their reader was too slow', unowned: 'the same: they came after their container’s end',
  malformed: 'records that could not be read', cells: 'system calls that were counted without their number', storage: 'system calls that were counted without duration',
  threads: 'threads that the flight recorder had no room for', disks: 'requests whose device and time are not known', peers: 'remotes that found no room',
  connections: 'connections that found no room', drop_reasons: 'dropped packets whose reason found no room', exits: 'exit statuses', missed: 'runs of a program that the kernel skipped',
  delay_ns: 'ns that nobody was charged with', sockets: 'connections that were not timed',
}
const CONTAINERS_SHOWN = 200

/** Shares are small: two digits more than elsewhere. */
const share = (v: number): string => (Number.isNaN(v) ? DASH : v === 0 ? '0' : v < 0.00005 ? '<0.01 %' : (v * 100).toFixed(2) + ' %')

export function CostView() {
  const probes = useReadings<Probes>('probes', 2000).value, vars = useReadings<Vars>('debug/vars', 2000).value
  const p = probes.all.at(-1), v = vars.all.at(-1), w = vars.all[0]
  if (!p) return <div class="notice"><h1>Own cost</h1>{probes.problem ? <Refused why={probes.problem} /> : <p aria-busy="true" />}</div>
  const cpu = v && w && v !== w ? gained(w.cpuSeconds, v.cpuSeconds) / between(w, v) : NaN
  const s = p.stepping
  return (
    <article class="cost scroll readings" tabIndex={0} aria-label="Own cost">
      <div class="title"><h1>Own cost</h1><span class="facts">what the daemon and its programs in the kernel take of {hello.value?.node ?? 'this machine'}, and what they lost</span></div>
      {probes.problem && <Refused why={probes.problem} />}
      <dl class="tiles">
        <Tile name="Level" text={p.level} more={p.share < 1 ? `system calls in ${percent(p.share)} of the time` : 'everything is counted'} />
        <Tile name="Programs, of busy time" text={share(p.burden)} more={s ? `budget ${share(s.budget)}` : 'no budget: the level is fixed'} bad={s !== undefined && p.burden > s.budget} />
        <Tile name="Programs, of the machine" text={share(p.price)} />
        <Tile name="Daemon, cores" text={cores(cpu)} />
        <Tile name="Daemon, resident" text={bytes(v?.rssBytes ?? NaN)} more={v && `heap ${bytes(v.heapBytes)}`} />
        <Tile name="Maps in the kernel" text={bytes(v?.mapBytes ?? NaN)} />
        <Tile name="Goroutines" text={whole(v?.goroutines ?? NaN)} more={v && `${v.fds} descriptors`} />
      </dl>
      {s && <Stepping p={p} s={s} />}
      <div class="columns">
        <Programs p={p} />
        <div class="column"><Containers p={p} /><Losses p={p} /></div>
      </div>
    </article>
  )
}

function Tile({ name, text, more, bad }: { name: string; text: string; more?: string | undefined; bad?: boolean }) {
  return <div data-tile={name} class={bad ? 'alarm' : ''}><dt>{name}</dt><dd><b>{text}</b> <small>{more}</small></dd></div>
}

function Stepping({ p, s }: { p: Probes; s: NonNullable<Probes['stepping']> }) {
  const others = Object.entries(s.estimates ?? {}).filter(([level]) => level !== p.level).sort(([, a], [, b]) => b - a)
  return (
    <p class="pad">
      {s.last ? <>Stepped from {s.last.from} to <b>{s.last.to}</b> {ago(Date.parse(p.at) - Date.parse(s.last.at))} ago: {plainText(s.last.why)}. {s.steps} {s.steps === 1 ? 'step' : 'steps'} in all.</>
        : 'The level has not stepped since the daemon started.'}
      {others.length > 0 && <> It would take {others.map(([level, price], i) => <span key={level}>{i > 0 && ', '}<b>~{share(price)}</b> at level {level}</span>)}.</>}
    </p>
  )
}

function Programs({ p }: { p: Probes }) {
  const rows = [...p.programs].sort((a, b) => b.cpu - a.cpu || b.runs - a.runs)
  const most = rows[0]?.cpu ?? 0
  return (
    <section>
      <table class="calls">
        <caption>In a tenth of a second of every five, in which the kernel timed them; of one CPU. The tax is what the hooks slow the calls of every process by, an estimate.</caption>
        <thead><tr>{['Program', 'Runs/s', 'Of one CPU', 'Each run'].map((t) => <th key={t} scope="col">{t}</th>)}</tr></thead>
        <tbody>
          {rows.map((r) => (
            <tr key={r.program} data-program={r.program} class={r.runs ? '' : 'idle'}>
              <th scope="row"><i class="bar" style={{ width: (most ? 100 * r.cpu / most : 0).toFixed(1) + '%' }} aria-hidden="true" />{r.program}</th>
              <td data-col="runs">{rate(r.runs)}</td><td data-col="cpu">{share(r.cpu)}</td><td>{duration(r.runs ? r.cpu / r.runs : NaN)}</td>
            </tr>
          ))}
          <tr><th scope="row">tax of system calls</th><td /><td>{p.tax ? '~' : ''}{share(p.tax)}</td><td /></tr>
          <tr data-program="all"><th scope="row">all</th><td /><td>{share(rows.reduce((n, r) => n + r.cpu, p.tax))}</td><td /></tr>
        </tbody>
      </table>
      {!rows.length && <p class="quiet pad">The first window comes within five seconds.</p>}
      {p.missing.length > 0 && <table class="calls">
        <thead><tr><th scope="col">Does not run</th><th scope="col" class="words">Why</th></tr></thead>
        <tbody>{p.missing.map((m) => <tr key={m.program}><th scope="row">{m.program}</th><td class="words">{plainText(m.reason)}</td></tr>)}</tbody>
      </table>}
    </section>
  )
}

function Containers({ p }: { p: Probes }) {
  const rows = p.containers.slice(0, CONTAINERS_SHOWN), mine = hello.value?.tenant
  return (
    <section>
      <table class="calls">
        <caption>Events run programs: system calls, and its tasks&rsquo; being given a CPU, of the last 5 s. ~ is an estimate: events at what a run costs on average, the tax included.
          {p.containers.length > rows.length && ` ${p.containers.length - rows.length} more are not shown.`}</caption>
        <thead><tr>{['Container', 'Events/s', 'Of one CPU', 'Lost'].map((t) => <th key={t} scope="col">{t}</th>)}</tr></thead>
        <tbody>{rows.map((c) => (
          <tr key={c.tenant + c.id} data-container={c.name} class={c.events ? '' : 'idle'}>
            <th scope="row">{c.tenant === mine ? <Link path={'/c/' + c.id.slice(0, 12) + '/syscalls'}>{plainText(c.name)}</Link> : `${plainText(c.name)} (${c.tenant})`}</th>
            <td data-col="events">{rate(c.events)}</td><td data-col="cpu">{c.cpu ? '~' : ''}{share(c.cpu)}</td><td class={c.dropped ? 'alarm' : ''}>{c.dropped.toLocaleString('en-GB')}</td>
          </tr>
        ))}</tbody>
      </table>
      {!rows.length && <p class="quiet pad">No container is watched, or the first window is not over.</p>}
    </section>
  )
}

function Losses({ p }: { p: Probes }) {
  const rows = Object.entries(p.drops).sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))
  return (
    <section>
      <table class="calls">
        <caption>Since the daemon started. Other than 0 is a limit that was reached.</caption>
        <thead><tr><th scope="col">Lost</th><th scope="col">How many</th><th scope="col" class="words">What</th></tr></thead>
        <tbody>{rows.map(([reason, n]) => (
          <tr key={reason} data-lost={reason} class={n ? '' : 'idle'}><th scope="row">{reason}</th><td class={n ? 'alarm' : ''}>{n.toLocaleString('en-GB')}</td><td class="words">{LOST[reason]}</td></tr>
        ))}</tbody>
      </table>
    </section>
  )
}
