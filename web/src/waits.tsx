// What a container's tasks wait for: reasons to be off the CPU, the CPU itself, and who had that meanwhile.
import { plainText } from './detail'
import { DASH, duration, percent } from './format'
import { between, gained, type Readings, useReadings } from './reading'
import { Refused } from './refused'
import { Link } from './shell'

interface Observed { last: string; waits: Record<string, number>; runQueue: { sum: number } }
interface Culprit { kind: string; id?: string; name?: string; seconds: number }
interface Delays { at: string; victims: { culprits: Culprit[] }[] }

/** In the words of docs/metrics.md. */
const REASONS: Record<string, string> = {
  cpu: 'could go on, had none: neighbours, or its own quota',
  disk: 'a device, or a call about a file’s data',
  network: 'a socket, Unix ones too',
  lock: 'futex, flock, fcntl, semop',
  sleep: 'nanosleep, clock_nanosleep',
  poll: 'poll, select, epoll, io_uring: idle servers are here',
  pipe: 'a pipe, or a message queue',
  fault: 'memory that is not there yet',
  child: 'a child’s end or execve',
  other: 'signals, terminals, stopped tasks',
}

const waitsOf = (o: Observed): Record<string, number> => ({ ...o.waits, cpu: o.runQueue.sum })

export function Waits({ id, level }: { id: string; level: string }) {
  const readings = useReadings<Observed>(`containers/${id}/observed`, 2000).value
  const now = readings.all.at(-1), before = readings.all[0]
  if (!now || !before) return readings.problem ? <Refused why={readings.problem} /> : <p aria-busy="true" />
  if (level === 'off') return <p class="quiet pad">Waits are not counted at level off.</p>
  const is = waitsOf(now), was = waitsOf(before), took = between(before, now)
  const rows = Object.keys(REASONS).filter((r) => is[r]! > 0).map((reason) => ({ reason, all: is[reason]!, rate: took ? gained(was[reason], is[reason]!) / took : NaN }))
  rows.sort((a, b) => (b.rate || 0) - (a.rate || 0) || b.all - a.all)
  const sum = rows.reduce((n, r) => n + r.all, 0), most = Math.max(...rows.map((r) => r.rate || 0))
  return (
    <div class="scroll readings" tabIndex={0} role="region" aria-label="Waits, scrollable">
      {readings.problem && <Refused why={readings.problem} />}
      <table class="calls">
        <caption>Tasks waiting: seconds that its tasks waited each second, added up over tasks, of the last 5 s. A wait counts once it has ended, so that
          a long one comes all at once.</caption>
        <thead><tr>{['Waited for', 'Tasks waiting', 'Since its start', 'Share', 'What it is'].map((t, i) => <th key={t} scope="col" class={i === 4 ? 'words' : ''}>{t}</th>)}</tr></thead>
        <tbody>{rows.map((r) => (
          <tr key={r.reason} data-wait={r.reason} class={r.rate ? '' : 'idle'}>
            <th scope="row"><i class="bar" style={{ width: (most ? 100 * (r.rate || 0) / most : 0).toFixed(1) + '%' }} aria-hidden="true" />{r.reason === 'cpu' ? 'a CPU' : r.reason}</th>
            <td data-col="rate">{Number.isNaN(r.rate) ? DASH : r.rate.toFixed(r.rate < 10 ? 3 : 1)}</td><td data-col="all">{duration(r.all)}</td><td>{percent(r.all / sum)}</td>
            <td class="words">{REASONS[r.reason]}</td>
          </tr>
        ))}</tbody>
      </table>
      <Culprits id={id} />
    </div>
  )
}

const KINDS: Record<string, string> = {
  self: 'its own other tasks', other: 'other tenants’ containers, or ended ones', ended: 'containers that have ended', host: 'processes of the host', idle: 'nobody: held back by its quota, or the CPU woke up', unattributed: 'not known',
}

/** Who had the CPU while the container's tasks waited for it: triton delays. */
function Culprits({ id }: { id: string }) {
  const { all }: Readings<Delays> = useReadings<Delays>(`containers/${id}/delays`, 2000).value
  const now = all.at(-1), before = all[0]
  if (!now || !before) return null
  const key = (c: Culprit) => c.kind + ' ' + (c.id ?? '')
  const was = new Map(before.victims[0]?.culprits.map((c) => [key(c), c.seconds])), took = between(before, now)
  const rows = (now.victims[0]?.culprits ?? []).map((c) => ({ c, rate: took ? gained(was.get(key(c)), c.seconds) / took : NaN })).filter((r) => r.c.seconds > 0)
  rows.sort((a, b) => (b.rate || 0) - (a.rate || 0) || b.c.seconds - a.c.seconds)
  if (!rows.length) return null
  const sum = rows.reduce((n, r) => n + r.c.seconds, 0)
  return (
    <table class="calls">
      <caption>Who had the CPU while its tasks waited for one: of the last 5 s, and since both are there.</caption>
      <thead><tr>{['Who had the CPU', 'Waited/s', 'In all', 'Share'].map((t) => <th key={t} scope="col">{t}</th>)}</tr></thead>
      <tbody>{rows.slice(0, 50).map(({ c, rate }) => (
        <tr key={key(c)} data-culprit={c.name ?? c.kind} class={rate ? '' : 'idle'}>
          <th scope="row">{c.kind === 'container' && c.name ? <Link path={'/c/' + c.id}>{plainText(c.name)}</Link> : c.kind === 'container' ? c.id?.slice(0, 12) : KINDS[c.kind] ?? c.kind}</th>
          <td>{duration(rate)}</td><td>{duration(c.seconds)}</td><td>{percent(c.seconds / sum)}</td>
        </tr>
      ))}</tbody>
    </table>
  )
}
