// Why a container's runs ended: the abnormal ones, with what was kept of each. triton deaths.
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { Calls, Last, Part, Table } from './crashes'
import { plainText } from './detail'
import { ask, frameText, type Frame, type RecordedCall, type Reading } from './dump'
import { ago, bytes, duration, moment } from './format'
import { useReadings } from './reading'
import { Refused } from './refused'
import { param, setParams } from './route'
import { Link } from './shell'

interface Death { id: string; container: string; run: number; restarts: number; started: string; at: string; kind: string; code: number; reason: string; core?: string }
interface Deaths { at?: string; deaths: Death[]; damaged?: number }
interface OOM { limit?: number; usage?: number; scope?: string; asked?: string; chosen?: number; tasks: { pid: number; comm: string; rss: number; anon: number; file: number; score: number }[] | null; more?: number }
interface DeathRecord {
  id: string; at: string; reason: string; memory: { limit?: number; peak?: number; kills?: number; oom?: OOM }; log?: string[]; telemetry?: Reading[]; missing?: string[]
  threads?: { tid: number; comm: string; calls: RecordedCall[] }[]
  panic?: { message: string; goroutines: { id: number; state: string; frames: Omit<Frame, 'module'>[] | null }[] | null }
}

export function Ends({ id }: { id: string }) {
  const readings = useReadings<Deaths>('deaths', 5000).value, all = readings.all.at(-1)
  if (!all) return readings.problem ? <Refused why={readings.problem} /> : <p aria-busy="true" />
  const mine = all.deaths.filter((d) => d.container === id)
  if (!mine.length) return <p class="quiet pad">It has not ended abnormally: exit codes other than 0, fatal signals, memory and what nobody saw are kept here.</p>
  const shown = mine.find((d) => d.id === param('end')) ?? mine[0]!
  return (
    <div class="scroll readings crash" tabIndex={0} role="region" aria-label="Ends, scrollable">
      <table class="events">
        <thead><tr>{['Ended', 'Ran for', 'Run', 'Code', 'Dump', 'Why'].map((t) => <th key={t} scope="col">{t}</th>)}</tr></thead>
        <tbody>{mine.map((d) => (
          <tr key={d.id} data-end={d.id} class={d === shown ? 'picked' : ''} aria-current={d === shown ? 'true' : undefined}>
            <th scope="row"><button type="button" class="link" onClick={() => setParams({ end: d.id })} title={moment(Date.parse(d.at))}>{ago(Date.now() - Date.parse(d.at))} ago</button></th>
            <td>{duration((Date.parse(d.at) - Date.parse(d.started)) / 1000)}</td><td>{d.run}</td><td>{d.code}</td>
            <td>{d.core && <Link path={'/crashes/' + d.core}>{d.core}</Link>}</td><td class="alarm">{plainText(d.reason)}</td>
          </tr>
        ))}</tbody>
      </table>
      <EndOf key={shown.id} id={shown.id} />
    </div>
  )
}

/** What is kept of one end. */
function EndOf({ id }: { id: string }) {
  const record = useSignal<DeathRecord | null>(null), problem = useSignal('')
  useEffect(() => {
    let there = true
    ask<DeathRecord>('deaths/' + id).then((r) => there && (record.value = r), (e: Error) => there && (problem.value = e.message))
    return () => void (there = false)
  }, [])
  const r = record.value
  if (!r) return problem.value ? <Refused why={problem.value} /> : null
  const row = (name: string, value: string) => <div key={name + value}><dt>{name}</dt><dd>{value}</dd></div>
  const m = r.memory
  return (
    <section>
      <dl class="record">
        {row('Ended', moment(Date.parse(r.at)))}
        {(m.peak ?? 0) > 0 && row('Memory', `${bytes(m.peak!)} at most${m.limit ? ' of ' + bytes(m.limit) : ''}${m.kills ? `, ${m.kills} killed for want of it` : ''}`)}
        {(r.missing ?? []).map((text) => row('Not known', plainText(text)))}
      </dl>
      {m.oom?.tasks && <Part title="Processes when memory was out" open><Table heads={['Pid', 'Name', 'Resident', 'Anonymous', 'Files', 'Killed']}
        rows={m.oom.tasks.map((t) => [String(t.pid), t.comm, bytes(t.rss), bytes(t.anon), bytes(t.file), t.pid === m.oom!.chosen ? 'yes' : ''])} /></Part>}
      {r.panic && <Part title="Panic" open>
        <pre>{plainText(r.panic.message)}</pre>
        {(r.panic.goroutines ?? []).slice(0, 20).map((g) => <div key={g.id}>
          <p class="quiet pad">goroutine {g.id} [{plainText(g.state)}]</p>
          <ol class="mono" start={0}>{(g.frames ?? []).map((f, n) => <li key={n}>{plainText(frameText({ ...f, module: -1 }, []))}</li>)}</ol>
        </div>)}
      </Part>}
      {(r.log ?? []).length > 0 && <Part title="Last output" open><div class="lines">{r.log!.map((l, i) => (
        <div key={i} class={l.startsWith('stderr: ') ? 'err' : ''}><span>{plainText(l.replace(/^std(out|err): /, ''))}</span></div>
      ))}</div></Part>}
      {(r.telemetry ?? []).length > 1 && <Part title="The last seconds of the container" open><Last r={r} /></Part>}
      <Calls r={{ at: r.at, threads: r.threads ?? null }} />
    </section>
  )
}
