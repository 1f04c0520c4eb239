// Crashes and snapshots: the groups, and the page of one dump.
import { useSignal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useEffect, useLayoutEffect } from 'preact/hooks'
import { plainText } from './detail'
import { ask, type Backtrace, callRow, type CrashGroup, type Dump, type DumpRecord, frameText, type Group, groupDumps, hex, rates, type Reading, type RecordedCall } from './dump'
import { ago, bytes, clock, cores, duration, moment, rate, whole } from './format'
import { second } from './frame'
import { Refused } from './refused'
import { open, param, setParams } from './route'
import { Link, viewKeys } from './shell'

const EVERY = 5

/** Every crash is listed within EVERY seconds. A click on a group leaves its crashes; the parameter group says which. */
export function CrashesView() {
  const dumps = useSignal<Dump[] | null>(null)
  const known = useSignal<CrashGroup[]>([])
  const damaged = useSignal(0)
  const problem = useSignal('')
  const turn = Math.floor(second.value / EVERY)
  useEffect(() => {
    let there = true
    type Cores = { cores: Dump[]; damaged?: number }
    type Groups = { groups: CrashGroup[]; damaged?: number }
    Promise.all([ask<Cores>('cores'), ask<Groups>('core-groups')]).then(([l, g]) => {
      if (!there) return
      dumps.value = l.cores
      known.value = g.groups
      damaged.value = (l.damaged ?? 0) + (g.damaged ?? 0)
      problem.value = ''
    }, (e: Error) => there && (problem.value = e.message))
    return () => void (there = false)
  }, [turn])
  useLayoutEffect(() => {
    viewKeys.value = (key) => key === 'Escape' && setParams({ group: '' })
    return () => void (viewKeys.value = null)
  }, [])
  if (problem.value && !dumps.value) return <div class="notice"><h1>Crashes</h1><Refused why={problem.value} /></div>
  if (!dumps.value) return <div class="notice" aria-busy="true" />
  const groups = groupDumps(dumps.value, known.value)
  const chosen = groups.find((g) => g.key === param('group'))
  const crashes = dumps.value.filter((d) => !d.kind).length
  const unseen = known.value.filter((g) => g.state === 'new' || g.state === 'regressed').length
  return (
    <section class="crashes">
      <div class="summary">
        <h1 class="hidden">Crashes</h1>
        <span><b>{crashes}</b> crashes</span><span><b>{dumps.value.length - crashes}</b> snapshots</span>
        <span><b>{bytes(dumps.value.reduce((n, d) => n + d.storedBytes, 0))}</b> of memory kept</span>
        {unseen > 0 && <span class="alarm">{unseen} new or regressed</span>}
        {damaged.value > 0 && <span class="alarm">{damaged.value} records cannot be read</span>}
        {problem.value && <span class="alarm">{problem.value}</span>}
        {chosen && <button class="chosen" onClick={() => setParams({ group: '' })}>Only {plainText(chosen.title)} ✕</button>}
      </div>
      {!groups.length ? <p class="quiet pad">No process has crashed. <code>triton snapshot CONTAINER</code> takes a core of one that goes on.</p>
        : <div class="scroll" tabIndex={0} role="region" aria-label="Crashes, scrollable">{chosen ? <GroupCrashes group={chosen} /> : <Groups groups={groups} />}</div>}
    </section>
  )
}

function Groups({ groups }: { groups: Group[] }) {
  return (
    <table class="events">
      <thead><tr>{['Where', 'What', 'State', 'Times', 'Last', 'First', 'Containers', 'Images'].map((t) => <th key={t} scope="col">{t}</th>)}</tr></thead>
      <tbody>{groups.map((g) => (
        <tr key={g.key} data-group={g.key}>
          <th scope="row">{g.state ? <button class="link" onClick={() => setParams({ group: g.key })}>{plainText(g.title)}</button>
            : <Link path={'/crashes/' + g.dumps[0]!.id}>{plainText(g.title)}</Link>}</th>
          <td class={g.dumps[0]?.kind ? '' : 'alarm'}>{g.what}</td>
          <td class={g.state === 'new' || g.state === 'regressed' ? 'alarm' : ''}>{g.state}</td>
          <td>{times(g)}</td>
          <td title={moment(g.last)}>{ago(Date.now() - g.last)} ago</td>
          <td title={moment(g.first)}>{ago(Date.now() - g.first)} ago</td>
          <td>{short(g.containers)}</td>
          <td>{short(g.images)}</td>
        </tr>
      ))}</tbody>
    </table>
  )
}

/** How often it crashed, and of how many crashes nothing but the place is known. */
const times = (g: Group): string => g.count + (g.countedOnly ? ` (${g.countedOnly} only counted)` : '')

const short = (names: string[]): string => names.slice(0, 5).join(', ') + (names.length > 5 ? ` and ${names.length - 5} more` : '')

/** The dumps of a group that are kept. */
function GroupCrashes({ group: g }: { group: Group }) {
  return <>
    <p class="pad">{g.what}, {times(g)} times, {g.state}; images {short(g.images)}{g.dumps.length < g.count && <span class="quiet">; {g.dumps.length} dumps are kept</span>}</p>
    <table class="events">
      <thead><tr>{['Dump', 'Time', 'Container', 'Image', 'Program', 'Memory'].map((t) => <th key={t} scope="col">{t}</th>)}</tr></thead>
      <tbody>{g.dumps.map((d) => (
        <tr key={d.id}>
          <th scope="row"><Link path={'/crashes/' + d.id}>{d.id}</Link></th>
          <td class="mono">{moment(Date.parse(d.at))}</td><td>{d.name}</td><td>{d.image}</td><td>{plainText(d.comm)}</td>
          <td>{d.body}{d.cut && ' (' + d.cut + ')'}</td>
        </tr>
      ))}</tbody>
    </table>
  </>
}

/** One dump: what happened, stacks, the last minute before, and what can be taken away. */
export function CrashView({ id }: { id: string }) {
  const record = useSignal<DumpRecord | null>(null)
  const stacks = useSignal<Backtrace | null>(null)
  const problem = useSignal(''), noStacks = useSignal('')
  useEffect(() => {
    let there = true
    const path = 'cores/' + encodeURIComponent(id)
    ask<DumpRecord>(path).then((r) => there && (record.value = r), (e: Error) => there && (problem.value = e.message))
    ask<Backtrace>(path + '/backtrace').then((b) => there && (stacks.value = b), (e: Error) => there && (noStacks.value = e.message))
    return () => void (there = false)
  }, [])
  useLayoutEffect(() => {
    viewKeys.value = (key) => key === 'Escape' && open('/crashes')
    return () => void (viewKeys.value = null)
  }, [])
  if (problem.value) return <div class="notice"><h1>{id}</h1><p class="error">{problem.value}</p><p><Link path="/crashes">All crashes</Link></p></div>
  const r = record.value
  if (!r) return <div class="notice" aria-busy="true" />
  return (
    <article class="crash scroll" tabIndex={0} role="region" aria-label="Crash, scrollable">
      <div class="title">
        <Link path="/crashes" class="back" label="All crashes">‹</Link>
        <h1>{plainText(r.comm)}</h1>
        <span class={'badge ' + (r.kind ? '' : 'alarm')}>{r.kind ?? r.signal}{r.fault !== undefined && ' at ' + hex(r.fault)}</span>
        <span class="facts"><span>{moment(Date.parse(r.at))}</span><span>{r.image}</span><span class="mono">{r.id}</span></span>
      </div>
      {r.death && <p class="banner alarm">{plainText(r.death.reason)}</p>}
      <Facts r={r} />
      <Part title="Threads" open><Threads r={r} stacks={stacks.value} why={noStacks.value} /></Part>
      <Calls r={r} />
      {r.telemetry && r.telemetry.length > 1 && <Part title="The last seconds of the container" open><Last r={r} /></Part>}
      {r.log && r.log.length > 0 && <Part title="Last output" open><div class="lines">{r.log.map((l, i) => (
        <div key={i} class={l.startsWith('stderr: ') ? 'err' : ''}><span>{plainText(l.replace(/^std(out|err): /, ''))}</span></div>
      ))}</div></Part>}
      {r.sockets && <Part title="Sockets"><Table heads={['FD', 'Protocol', 'Local', 'Peer', 'State']} rows={r.sockets.map((s) => [s.fd, s.proto, s.local, s.peer, s.state])} /></Part>}
      {r.files && <Part title="Open files"><Table heads={['FD', 'File']} rows={r.files.map((f) => [f.fd, f.target])} /></Part>}
      {r.modules && <Part title="Modules"><Table heads={['File', 'Build id', 'From']} rows={r.modules.map((m) => [m.path, m.buildID ?? '', hex(m.start)])} /></Part>}
      {r.limits && <Part title="Limits"><pre>{r.limits}</pre></Part>}
      {r.envNames && <Part title="Environment, names"><p class="mono">{plainText(r.envNames.join('  '))}</p></Part>}
    </article>
  )
}

export function Part({ title, open = false, children }: { title: string; open?: boolean; children: ComponentChildren }) {
  return <details open={open}><summary>{title}</summary>{children}</details>
}

function Facts({ r }: { r: DumpRecord }) {
  const path = '/triton/v1/cores/' + r.id
  const row = (name: string, value: ComponentChildren) => <div><dt>{name}</dt><dd>{value}</dd></div>
  return (
    <dl class="record">
      {row('Container', <Link path={'/c/' + r.container.id}>{r.name}, run {r.run}</Link>)}
      {row('Program', <span class="mono">{plainText(r.exe)}, pid {r.nsPid} ({r.pid} on the host), uid {r.uid}</span>)}
      {row('Command', <span class="mono">{plainText((r.cmdline ?? []).join(' '))}</span>)}
      {r.note && row('Note', r.note)}
      {row('Memory', `${r.body}${r.cut ? ' (' + r.cut + ')' : ''}: ${bytes(r.memoryBytes)}, ${bytes(r.storedBytes)} kept`)}
      {row(r.kind ? 'Pause' : 'Held for', duration((r.pauseNs ?? r.heldForNs) / 1e9))}
      {(r.missing ?? []).map((m) => row('Not known', plainText(m)))}
      {row('Downloads', <span class="downloads">
        <a href={path + '/bundle'} download={`bundle.${r.id}.tar`}>Bundle for gdb</a>
        {(r.body === 'full' || r.body === 'truncated') && <a href={path + '/core'} download={'core.' + r.id}>Core</a>}
        <a href={path + '/mini'} download={`mini.${r.id}`}>Mini core</a>
        <a href={path} download={r.id + '.json'}>Record</a>
      </span>)}
    </dl>
  )
}

function Threads({ r, stacks, why }: { r: DumpRecord; stacks: Backtrace | null; why: string }) {
  const comm = new Map((r.threads ?? []).map((t) => [t.tid, t]))
  if (!stacks) {
    return <>
      {why ? <p class="quiet pad">No backtrace: {plainText(why)}</p> : <p class="quiet pad" role="status">Reading the stacks…</p>}
      <Table heads={['Thread', 'Name', 'At', 'System call']} rows={(r.threads ?? []).map((t) => [String(t.tid), t.comm ?? '', hex(t.pc), t.call ?? ''])} />
    </>
  }
  return <>{stacks.threads.map((t, i) => (
    <details key={t.tid} open={i === 0} class="stack">
      <summary>{i === 0 && !r.kind ? <b class="alarm">Thread {t.tid}, crashed</b> : <>Thread {t.tid}</>} <span class="quiet">{plainText(t.comm ?? comm.get(t.tid)?.comm ?? '')} {comm.get(t.tid)?.call}</span></summary>
      <ol class="mono" start={0}>{(t.frames ?? []).map((f, n) => <li key={n}>{plainText(frameText(f, stacks.modules ?? []))}</li>)}</ol>
      {t.python && <>
        <p class="quiet pad">in Python:</p>
        <ol class="mono" start={0}>{t.python.map((f, n) => <li key={n}>{plainText(frameText(f, []))}</li>)}</ol>
      </>}
      {t.cut && <p class="quiet pad">{plainText(t.cut)}</p>}
    </details>
  ))}
    {(stacks.goroutines ?? []).length > 0 && <details class="stack">
      <summary>{stacks.goroutines!.length} goroutines that did not run</summary>
      {stacks.goroutines!.slice(0, 200).map((g) => <div key={g.id}>
        <p class="quiet pad">goroutine {g.id} [{plainText(g.state)}]</p>
        <ol class="mono" start={0}>{(g.frames ?? []).map((f, n) => <li key={n}>{plainText(frameText(f, stacks.modules ?? []))}</li>)}</ol>
      </div>)}
      {stacks.goroutines!.length > 200 && <p class="quiet pad">and {stacks.goroutines!.length - 200} more: triton cores bt -all</p>}
    </details>}
  </>
}

/** What the threads asked of the kernel before, by the flight recorder: the first is the one that it is about. */
export function Calls({ r }: { r: { at: string; threads: { tid: number; comm?: string; calls?: RecordedCall[] }[] | null } }) {
  const recorded = (r.threads ?? []).filter((t) => t.calls?.length)
  if (recorded.length === 0) return null
  return <Part title="Last system calls">{recorded.map((t, i) => (
    <details key={t.tid} open={i === 0} class="stack">
      <summary>Thread {t.tid} <span class="quiet">{plainText(t.comm ?? '')}, {t.calls!.length} calls</span></summary>
      <Table heads={['Before', 'Call', 'Result', 'Took']} rows={t.calls!.map((c) => callRow(c, Date.parse(r.at)))} />
    </details>
  ))}</Part>
}

export function Last({ r }: { r: { telemetry?: Reading[] } }) {
  const rows = rates(r.telemetry ?? []).slice(-15).map((s) => [clock(s.t), cores(s.cpu), bytes(s.memory), whole(s.pids), rate(s.syscalls), rate(s.errors)])
  return <Table heads={['Time', 'CPU, cores', 'Memory', 'Processes', 'Syscalls/s', 'Errors/s']} rows={rows} />
}

export function Table({ heads, rows }: { heads: string[]; rows: string[][] }) {
  return (
    <table class="plain">
      <thead><tr>{heads.map((h) => <th key={h} scope="col">{h}</th>)}</tr></thead>
      <tbody>{rows.map((row, i) => <tr key={i}>{row.map((c, n) => <td key={n} class="mono">{plainText(c)}</td>)}</tr>)}</tbody>
    </table>
  )
}
