// The one websocket of the page: it reconnects, subscribes again from where it was, acknowledges, and pauses when nobody looks.
import { computed, signal } from '@preact/signals'
import { decodeFrame, type Frames, type Head, type Hello, type Reply, type Request, type Topic } from './wire'

export type Connection =
  | { kind: 'connecting' }
  | { kind: 'live' }
  | { kind: 'waiting'; until: number; why: string }
  | { kind: 'hidden' }
  | { kind: 'signed-out'; why: string }

export interface Handler<T extends Topic> {
  frame(f: Frames[T]): void
  error?(code: string, message: string): void
  end?(): void
}

interface Sub { topic: Topic; key?: string; q?: string; res?: number; handler: Handler<Topic>; id: number; group: number; from: number; lost: number }

const RETRY_FIRST = 250
const RETRY_MOST = 10_000
/** A hidden tab stops asking after this. */
const HIDE_AFTER = 10_000

export const connection = signal<Connection>({ kind: 'connecting' })
export const hello = signal<Hello | null>(null)

/** What the daemon has no numbers of, because a probe does not run there. */
export const unmeasured = computed(() => [...new Set(hello.value?.missing?.map((p) => PROBES[p] ?? p))])

const PROBES: Record<string, string> = {
  sys_enter: 'system calls', sys_exit: 'system calls', sched_switch: 'run-queue waits', oom_kills: 'OOM kills',
  block_ios: 'block I/O', signals: 'fatal signals',
}
/** Frames that the server dropped because this page was too slow, and when it was last told. */
export const dropped = signal({ total: 0, at: 0 })
/** When the newest data were made, in this machine's time; 0: none yet. */
export let newest = 0
/** Server clock less ours, ms. */
let skew = 0

let ws: WebSocket | null = null
let retry = RETRY_FIRST
let timer = 0
let lastID = 0
let received = 0
let acked = 0
const subs = new Set<Sub>()
const byGroup = new Map<number, Set<Sub>>()

const send = (r: Request): void => {
  if (ws?.readyState === WebSocket.OPEN) ws.send(JSON.stringify(r))
}

export function subscribe<T extends Topic>(topic: T, opt: { key?: string; q?: string; res?: number }, handler: Handler<T>): () => void {
  const sub: Sub = { topic, ...opt, handler: handler as unknown as Handler<Topic>, id: 0, group: 0, from: 0, lost: 0 }
  subs.add(sub)
  if (ws?.readyState === WebSocket.OPEN) ask(sub)
  return () => {
    subs.delete(sub)
    byGroup.get(sub.group)?.delete(sub)
    if (sub.id) send({ op: 'unsub', id: sub.id })
  }
}

/** Whether numbers come each second: a container that does not run has none. */
export const flowing = signal(true)
/** Whether nothing on the page comes by the socket. */
export const unneeded = (): boolean => subs.size === 0 || !flowing.value

function ask(sub: Sub): void {
  sub.id = ++lastID
  const r: Request = { op: 'sub', id: sub.id, topic: sub.topic }
  if (sub.key !== undefined) r.key = sub.key
  if (sub.q) r.q = sub.q
  if (sub.res) r.res = sub.res
  if (sub.from) {
    r.from = sub.from
    r.boot = boot
  }
  send(r)
}

let boot = ''

export function connect(): void {
  clearTimeout(timer)
  timer = 0
  if (ws) return
  connection.value = { kind: 'connecting' }
  const s = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/triton/v1/ws`, 'triton.v1')
  s.binaryType = 'arraybuffer'
  ws = s
  s.onopen = () => subs.forEach(ask) // the server answers in order, after its hello
  s.onmessage = (e: MessageEvent<string | ArrayBuffer>) => (typeof e.data === 'string' ? onReply(JSON.parse(e.data) as Reply) : onData(e.data))
  s.onclose = (e) => {
    if (ws !== s) return
    ws = null
    hello.value = null
    byGroup.clear()
    void lost(e)
  }
}

async function lost(e: CloseEvent): Promise<void> {
  if (e.code === 4401) return signedOut('the login has ended')
  // A refused handshake has no status in a browser: ask by a plain request whether it is the login.
  if (e.code === 1006) {
    const status = await fetch('/triton/v1/ws', { headers: { Accept: 'application/json' } }).then((r) => r.status, () => 0)
    if (status === 401) return signedOut('')
  }
  const wait = retry * (0.75 + Math.random() / 2)
  retry = Math.min(retry * 2, RETRY_MOST)
  connection.value = { kind: 'waiting', until: Date.now() + wait, why: e.reason }
  timer = window.setTimeout(connect, wait)
}

function signedOut(why: string): void {
  connection.value = { kind: 'signed-out', why }
}

function onReply(r: Reply): void {
  switch (r.op) {
    case 'hello':
      hello.value = r.hello
      skew = r.hello.now - Date.now()
      received = acked = 0
      retry = RETRY_FIRST
      if (r.hello.boot !== boot) for (const s of subs) s.from = 0
      boot = r.hello.boot
      connection.value = { kind: 'live' }
      if (document.hidden) onVisibility()
      return
    case 'ok':
      for (const s of subs) if (s.id === r.id) {
        byGroup.get(s.group)?.delete(s)
        s.group = r.group
        byGroup.set(r.group, (byGroup.get(r.group) ?? new Set()).add(s))
      }
      return
    case 'level':
      if (hello.value) {
        hello.value = { ...hello.value, level: r.level, missing: r.level.missing ?? [] }
      }
      return
    case 'dropped':
      dropped.value = { total: dropped.value.total + r.dropped, at: Date.now() }
      return
    case 'err':
      for (const s of subs) if (s.id === r.id) s.handler.error?.(r.code, r.message)
      return
    case 'end':
      for (const s of subs) if (s.id === r.id) s.handler.end?.()
  }
}

function onData(data: ArrayBuffer): void {
  received++
  if (received === acked + 1) queueMicrotask(acknowledge)
  const f: Head = decodeFrame(data)
  newest = f.t - skew
  for (const s of byGroup.get(f.g) ?? []) {
    s.from = f.s
    s.handler.frame(f as never)
  }
}

function acknowledge(): void {
  acked = received
  send({ op: 'ack', n: received })
}

let hideTimer = 0
function onVisibility(): void {
  clearTimeout(hideTimer)
  if (document.hidden) {
    hideTimer = window.setTimeout(() => {
      send({ op: 'pause' })
      if (connection.value.kind === 'live') connection.value = { kind: 'hidden' }
    }, HIDE_AFTER)
  } else if (connection.value.kind === 'hidden') {
    send({ op: 'resume' })
    connection.value = { kind: 'live' }
  } else if (connection.value.kind === 'waiting') {
    connect()
  }
}

export function startSocket(): void {
  document.addEventListener('visibilitychange', onVisibility)
  window.addEventListener('online', () => connection.value.kind === 'waiting' && connect())
  connect()
}
