// What is on every page: rail, filter, time, connection, theme, keys.
import { signal, useComputed, useSignal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'
import { AskView } from './ask'
import { ContainerView } from './container'
import { ContainersView } from './containers'
import { CrashesView, CrashView } from './crashes'
import { CostView } from './cost'
import { parseFilter } from './filter'
import { ago, clock } from './format'
import { drawn, second } from './frame'
import { login, loginError } from './login'
import { MapView } from './map'
import { href, open, param, pausedAt, place, setParams, span, view } from './route'
import { connect, connection, dropped, hello, newest, unmeasured, unneeded } from './socket'
import { theme, toggleTheme } from './theme'

const helpOpen = signal(false)

export function Shell() {
  useKeys()
  const v = view.value
  const signedOut = connection.value.kind === 'signed-out'
  return (
    <div class="shell">
      <a class="skip" href="#main">Skip to content</a>
      <Rail />
      <Topbar />
      <main id="main" tabIndex={-1}>
        {signedOut ? <SignedOut />
          : v.name === 'containers' ? <ContainersView />
          : v.name === 'container' ? <ContainerView key={v.id} id={v.id} tab={v.tab} />
          : v.name === 'ask' ? <AskView />
          : v.name === 'map' ? <MapView />
          : v.name === 'cost' ? <CostView />
          : v.name === 'crashes' ? <CrashesView />
          : v.name === 'crash' ? <CrashView key={v.id} id={v.id} />
          : <div class="notice"><h1>No such page</h1><p><Link path="/c">Go to the containers</Link></p></div>}
      </main>
      {helpOpen.value && <Help />}
    </div>
  )
}

/** A link within the page. */
export function Link(p: { path: string; class?: string; children: ComponentChildren; current?: boolean; label?: string }) {
  const click = (e: MouseEvent) => {
    if (e.ctrlKey || e.metaKey || e.shiftKey || e.button) return
    e.preventDefault()
    open(p.path)
  }
  return <a href={href(p.path)} class={p.class} onClick={click} aria-current={p.current ? 'page' : undefined} aria-label={p.label}>{p.children}</a>
}

function Rail() {
  return (
    <nav class="rail" aria-label="Views">
      <div class="mark" aria-hidden="true">
        <svg viewBox="0 0 24 24" width="22" height="22"><path d="M12 22V3M5 3v6a7 7 0 0 0 14 0V3M3 5l2-3 2 3M10 5l2-3 2 3M17 5l2-3 2 3" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" /></svg>
      </div>
      <Link path="/c" current={view.value.name === 'containers' || view.value.name === 'container'}>
        <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true"><path d="M4 6h16M4 12h16M4 18h16" stroke="currentColor" stroke-width="2" stroke-linecap="round" /></svg>
        <span>Containers</span>
      </Link>
      <Link path="/ask" current={view.value.name === 'ask'}>
        <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true"><path d="M4 20V9M9 20V4M14 20v-8M19 20v-4" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" /></svg>
        <span>Ask</span>
      </Link>
      <Link path="/map" current={view.value.name === 'map'}>
        <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true"><path d="M8 6h5a3 3 0 0 1 3 3v6M8 6a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0zM18.500 17.500a2.500 2.500 0 1 1-5 0 2.500 2.500 0 0 1 5 0z" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" /></svg>
        <span>Map</span>
      </Link>
      <Link path="/crashes" current={view.value.name === 'crashes' || view.value.name === 'crash'}>
        <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true"><path d="M13 2 5 13h6l-1 9 9-12h-6z" fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round" /></svg>
        <span>Crashes</span>
      </Link>
      {hello.value?.operator && <Link path="/cost" current={view.value.name === 'cost'}>
        <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true"><path d="M4 18a9 9 0 1 1 16 0M12 15l4-6" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" /></svg>
        <span>Cost</span>
      </Link>}
      <div class="rail-end">
        <button type="button" onClick={toggleTheme} aria-label={theme.value === 'dark' ? 'Light theme' : 'Dark theme'} title="Theme (T)">{theme.value === 'dark' ? '☀' : '☾'}</button>
        <button type="button" onClick={() => (helpOpen.value = true)} aria-label="Keys and filter" title="Keys and filter (?)">?</button>
      </div>
    </nav>
  )
}

function Topbar() {
  const h = hello.value
  return (
    <header class="topbar">
      <FilterBox />
      <TimeControl />
      <Pill />
      {unmeasured.value.length > 0 && <span class="note" role="note" title={h?.level?.why ?? ''}>Not measured here: {unmeasured.value.join(', ')}</span>}
      {h?.level?.level === 'sampled' && <span class="note" role="note" title={h.level.why ?? ''}>System calls are sampled: ~ is an estimate</span>}
      {h && <span class="who" title={`signed in as ${h.caller}`}><b>{h.tenant}</b> on {h.node}</span>}
    </header>
  )
}

function FilterBox() {
  const input = useRef<HTMLInputElement>(null)
  const q = param('q')
  const parsed = parseFilter(q)
  const onContainers = view.value.name === 'containers'
  return (
    <div class={'filter' + (parsed.ok ? '' : ' bad')}>
      <input id="filter" ref={input} type="search" spellcheck={false} autocomplete="off" value={q} aria-label="Filter containers" aria-invalid={!parsed.ok}
        aria-describedby="filter-note" placeholder="Filter: name, image:pg*, label:k=v, cpu>0.5"
        onInput={(e) => {
          const text = e.currentTarget.value
          if (onContainers) setParams({ q: text })
          else open('/c?q=' + encodeURIComponent(text))
        }}
        onKeyDown={(e) => {
          if (e.key !== 'Escape') return
          if (q) setParams({ q: '' })
          else input.current?.blur()
        }} />
      <span id="filter-note" class="filter-note" role={parsed.ok ? undefined : 'alert'}>{parsed.ok ? '' : parsed.error}</span>
    </div>
  )
}

function TimeControl() {
  const at = pausedAt.value
  return (
    <div class="time" role="group" aria-label="Time">
      <button type="button" aria-pressed={at > 0} onClick={togglePause} title="Pause or go live (Space)">{at ? '▶ Live' : '❚❚ Pause'}</button>
      {at > 0 && <>
        <button type="button" onClick={() => move(-1)} aria-label="Earlier" title="[">‹</button>
        <span class="at">{clock(at)}</span>
        <button type="button" onClick={() => move(1)} aria-label="Later" title="]">›</button>
      </>}
      <span class="spans" role="group" aria-label="Length of the time axis">
        {([['1m', 60], ['5m', 300], ['10m', 600]] as const).map(([name, s]) => (
          <button key={name} type="button" aria-pressed={span.value === s} onClick={() => setParams({ w: s === 60 ? '' : name })}>{name}</button>
        ))}
      </span>
    </div>
  )
}

function togglePause(): void {
  setParams({ t: pausedAt.value ? '' : String(Math.floor((newest || Date.now()) / 1000) * 1000) })
}

/** Moves the shown moment by a sixth of the axis; never into the future. */
function move(by: number): void {
  const t = (pausedAt.value || newest || Date.now()) + by * span.value * 1000 / 6
  setParams({ t: t >= Date.now() - 1000 ? '' : String(Math.floor(t / 1000) * 1000) })
}

function Pill() {
  second.value
  drawn.value
  const c = connection.value
  const age = newest ? (Date.now() - newest) / 1000 : NaN
  const [kind, text] =
    c.kind === 'waiting' ? ['bad', `reconnecting in ${Math.max(0, Math.ceil((c.until - Date.now()) / 1000))} s`]
    : c.kind === 'connecting' ? ['warn', 'connecting']
    : c.kind === 'signed-out' ? ['bad', 'signed out']
    : c.kind === 'hidden' ? ['warn', 'resting']
    : unneeded() ? ['ok', 'connected']
    : Number.isNaN(age) ? ['warn', 'waiting for data']
    : age > 3 ? ['warn', `stale ${age.toFixed(0)} s`]
    : ['ok', `live ${Math.max(0, age).toFixed(1)} s`]
  const said = useComputed(() => connection.value.kind === 'live' ? 'connected' : connection.value.kind === 'waiting' ? 'connection lost, reconnecting' : connection.value.kind)
  const d = dropped.value
  const old = newest && c.kind !== 'live' && age > 1 ? `, data ${ago(age * 1000)} old` : ''
  return (
    <div class="state">
      <span class={'pill ' + kind} data-state={c.kind}><i aria-hidden="true" />{text}{old}
        {c.kind === 'waiting' && <button type="button" onClick={connect}>now</button>}</span>
      <span class="hidden" role="status">{said}</span>
      {d.total > 0 && <span class="pill warn drops" title="This page read too slowly. What it shows is complete again, curves have a hole.">{d.total} updates skipped</span>}
    </div>
  )
}

function SignedOut() {
  const token = useSignal('')
  const enter = async (e: SubmitEvent) => {
    e.preventDefault()
    if (await login({ token: token.value.trim() })) connect()
    token.value = ''
  }
  return (
    <div class="notice">
      <h1>Signed out</h1>
      <p>Open the link that <code>triton login</code> prints on the machine, or paste a token.</p>
      <form onSubmit={enter}>
        <label for="token">Token</label>
        <input id="token" type="password" autocomplete="off" value={token.value} onInput={(e) => (token.value = e.currentTarget.value)} />
        <button type="submit" class="strong">Sign in</button>
      </form>
      {loginError.value && <p class="error" role="alert">{loginError.value}</p>}
    </div>
  )
}

const KEYS: [string, string][] = [
  ['/', 'filter'], ['g c', 'containers'], ['g a', 'ask a question'], ['g m', 'map'], ['g d', 'crashes and snapshots'], ['g o', 'own cost, for operators'], ['j  k', 'next, previous row'], ['Enter', 'open the row'], ['Space', 'pause, go live'],
  ['[  ]', 'earlier, later'], ['T', 'theme'], ['Esc', 'leave a field, close'], ['?', 'this page'],
]
const GRAMMAR: [string, string][] = [
  ['web', 'part of the name, image or id'], ['image:pg*', 'name, image, id or state; * and ?'], ['label:team=core', 'a label, or one with a value'],
  ['cpu>0.5', 'cpu, throttled, mem, wait, syscalls, errors, pids, restarts'], ['wait>2ms mem<1G', 'all terms must hold'], ['-state:exited', 'must not hold'], ['"label:a=b c"', 'keeps spaces'],
]

function Help() {
  const box = useRef<HTMLDialogElement>(null)
  useEffect(() => box.current?.showModal(), [])
  const list = (rows: [string, string][]) => <dl>{rows.map(([k, v]) => <div key={k}><dt><kbd>{k}</kbd></dt><dd>{v}</dd></div>)}</dl>
  return (
    <dialog ref={box} aria-labelledby="help-title" onClose={() => (helpOpen.value = false)}>
      <h1 id="help-title">Keys and filter</h1>
      <div class="help"><section><h2>Keys</h2>{list(KEYS)}</section><section><h2>Filter</h2>{list(GRAMMAR)}</section></div>
      <form method="dialog"><button class="strong">Close</button></form>
    </dialog>
  )
}

/** Views take the keys that mean something to them: j, k, Enter. */
export const viewKeys = signal<((key: string) => void) | null>(null)

/** What is seen can be had by its key: effects of the layout are there with what is drawn, others come later. */
function useKeys(): void {
  useLayoutEffect(() => {
    let before = ''
    const down = (e: KeyboardEvent) => {
      if (e.ctrlKey || e.metaKey || e.altKey || helpOpen.value) return
      const el = e.target
      if (el instanceof HTMLElement && (el.closest('input, textarea, select, .xterm, [contenteditable]') || (e.key === ' ' || e.key === 'Enter') && el.closest('button, a, summary'))) return
      const pair = before + e.key
      before = e.key === 'g' ? 'g' : ''
      if (pair === 'gc') open('/c')
      else if (pair === 'ga') open('/ask')
      else if (pair === 'gm') open('/map')
      else if (pair === 'gd') open('/crashes')
      else if (pair === 'go') open('/cost')
      else if (e.key === '/') document.getElementById('filter')?.focus()
      else if (e.key === '?') helpOpen.value = true
      else if (e.key === ' ') togglePause()
      else if (e.key === '[') move(-1)
      else if (e.key === ']') move(1)
      else if (e.key === 'T') toggleTheme()
      else if (e.key === 'j' || e.key === 'k' || e.key === 'Enter' || e.key === 'Escape') return viewKeys.value?.(e.key)
      else return
      e.preventDefault()
    }
    document.addEventListener('keydown', down)
    return () => document.removeEventListener('keydown', down)
  }, [])
  useEffect(() => {
    if (place.value.path === '/') open('/c', true)
  }, [place.value.path])
}
