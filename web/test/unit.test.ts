// The page's logic without a browser: decoding against the golden messages of pkg/dashboard, the filter against its vectors.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { bound, Detail, EventList, LogList, plainText, quantile, toColumns, type Second } from '../src/detail'
import { callRow, frameText, groupDumps, rates, type CrashGroup, type Dump } from '../src/dump'
import { matches, parseFilter } from '../src/filter'
import { boxes } from '../src/flame'
import { bytes, duration, rate } from '../src/format'
import { EXAMPLES, layOut, METRICS, Tally, type Answer } from '../src/question'
import { gained, keepGain, mean as meanOf, since, total, type Gain } from '../src/reading'
import { Lines } from '../src/stream'
import { arrows, labelOf, layout, merged, POINTS_DRAWN, type ServiceMap } from '../src/servicemap'
import { Table } from '../src/table'
import { Trace, tracePath, TRACE_LINES } from '../src/tracing'
import { COL, decodeFrame, RESYNC, SNAPSHOT, type ContainerFrame, type EventFrame, type LogFrame, type Reply, type RowMeta, type TableFrame } from '../src/wire'

const data = (name: string) => readFileSync(new URL('../../../pkg/dashboard/testdata/' + name, import.meta.url))
function frame<T>(name: string): T {
  const b = data(`wire/${name}.msgpack`)
  return decodeFrame(b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength) as ArrayBuffer) as unknown as T
}

/** Bytes as the golden files write them. */
function plain(v: unknown): unknown {
  if (v instanceof Uint8Array) return '0x' + Buffer.from(v).toString('hex')
  if (Array.isArray(v)) return v.map(plain)
  if (v && typeof v === 'object') return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, plain(x)]))
  return v
}

for (const name of ['table-snapshot', 'table-tick', 'container-snapshot', 'container-removed', 'events', 'logs']) {
  test(`the golden frame ${name} decodes to what Go encoded`, () => {
    assert.deepEqual(plain(frame(name)), JSON.parse(data(`wire/${name}.json`).toString()))
  })
}

test('the golden replies are of the types that the page knows', () => {
  for (const name of ['hello', 'ok', 'err', 'dropped', 'level'] as const) {
    const r = JSON.parse(data(`wire/reply-${name}.json`).toString()) as Reply
    assert.equal(r.op, name)
    switch (r.op) {
      case 'hello': assert.equal(r.hello.tenant + r.hello.boot, 'tb'); break
      case 'ok': assert.deepEqual([r.id, r.group, r.resumed], [3, 7, true]); break
      case 'err': assert.equal(r.code, 'not_found'); break
      case 'dropped': assert.equal(r.dropped, 12); break
      case 'level': assert.deepEqual([r.level.level, r.level.why?.slice(0, 6), r.level.missing], ['sampled', 'detail', ['sys_exit']])
    }
  }
})

test('a table follows snapshot, tick and rows that leave', () => {
  const t = new Table()
  const snapshot = frame<TableFrame>('table-snapshot')
  snapshot.k = SNAPSHOT
  t.apply(snapshot)
  assert.equal(t.size, 2)
  assert.equal(t.meta[0]?.name, 'web')
  assert.equal(t.meta[70000]?.labels?.a, 'ä<b>')
  assert.equal(t.average(0, COL.cpu), 0.5)
  assert.ok(Number.isNaN(t.average(0, COL.wait50)), 'an unknown number stays unknown')
  t.apply(frame<TableFrame>('table-tick'))
  assert.equal(t.size, 1)
  assert.equal(t.average(0, COL.syscalls), 12345)
})

test('a table that lost frames keeps its curve with a hole in it', () => {
  const t = new Table()
  const snapshot = frame<TableFrame>('table-snapshot')
  snapshot.k = SNAPSHOT
  delete snapshot.h
  t.apply(snapshot)
  t.apply({ ...snapshot, k: RESYNC, s: snapshot.s + 4 })
  const last = [5, 4, 3, 2, 1].map((i) => t.history(0, 60 - i))
  assert.deepEqual(last, [0.5, NaN, NaN, NaN, 0.5])
})

test('a container reads seconds, names and the totals of calls', () => {
  const d = new Detail()
  d.apply(frame<ContainerFrame>('container-snapshot'))
  assert.equal(d.meta?.cmd, "sh -c 'sleep 1'")
  assert.deepEqual(d.calls.map((c) => [c.name, c.total, c.rate, c.errors]), [['read', 60, 10, 1], ['exit_group', 1, Math.fround(0.2), 0]])
  const s = d.seconds[0]!
  assert.equal(s.v[COL.cpu], 0.5)
  assert.equal(s.calls.first, -94)
  assert.deepEqual([...s.calls.n], [7, 0, 0xffffffff])
  assert.deepEqual([d.totalsGuessed, d.callsOff], [0.75, 0.125])
  d.apply(frame<ContainerFrame>('container-snapshot'))
  assert.equal(d.seconds.length, 1, 'a second that is known is not taken twice')
  d.apply(frame<ContainerFrame>('container-removed'))
  assert.ok(d.gone)
})

test('quantiles are the upper bounds of native buckets, as in Go', () => {
  const c = { schema: 2, first: -40, n: Uint32Array.of(50, 49, 1) }
  assert.equal(quantile(c, 0.5), bound(2, -40))
  assert.equal(quantile(c, 0.99), bound(2, -39))
  assert.equal(quantile(c, 1), bound(2, -38))
  assert.ok(Number.isNaN(quantile({ ...c, n: new Uint32Array() }, 0.5)))
})

test('seconds without a sample are holes, jitter makes none', () => {
  const at = (t: number, n: number): Second => ({ t, v: new Float32Array(), calls: { schema: 0, first: 0, n: Uint32Array.of(n) }, waits: { schema: 0, first: 0, n: new Uint32Array() } })
  const samples = [at(10_900, 1), at(12_020, 2), at(12_980, 3), at(14_700, 4), at(20_100, 5), at(20_300, 6)]
  const got = toColumns(samples, 10, 12).map((c) => c?.calls.n[0] ?? 0)
  assert.deepEqual(got, [1, 2, 3, 4, 4, 0, 0, 0, 0, 5, 6, 0])
})

test('events and log lines are bounded, and a snapshot begins anew', () => {
  const e = new EventList(), l = new LogList()
  e.apply(frame<EventFrame>('events'))
  assert.deepEqual([e.rows.length, e.lost, e.rows[0]?.x?.exitCode], [1, 4, '3'])
  for (let i = 0; i < 800; i++) l.apply(frame<LogFrame>('logs'))
  assert.deepEqual([l.rows.length, l.base, l.ended], [1000, 600, true])
  l.apply({ ...frame<LogFrame>('logs'), k: SNAPSHOT })
  assert.equal(l.rows.length, 2)
})

test('what a program writes cannot move the cursor or turn text around', () => {
  assert.equal(plainText('\x1b[31mred\x1b[0m \x1b]0;title\x07x\x1b[2J\r'), 'red x')
  assert.equal(plainText('a\x08b\u202ec\td'), 'a·b·c\td')
})

const rows: [Partial<RowMeta>, Record<number, number>][] = [
  [{ id: 'aa11', name: 'web', image: 'registry/app:2', status: 'running', restarts: 0, labels: { team: 'edge' } }, { [COL.cpu]: 0.75, [COL.memory]: 2 ** 25, [COL.wait99]: 0.004, [COL.syscalls]: 5000 }],
  [{ id: 'bb22', name: 'db', image: 'pg:16', status: 'running', restarts: 0, labels: { team: 'core-db', note: 'two words' } }, { [COL.cpu]: 0.25, [COL.memory]: 2 ** 27, [COL.wait99]: 0.001, [COL.syscalls]: 900 }],
  [{ id: 'cc33', name: 'idle', image: 'busybox', status: 'exited', restarts: 3 }, {}],
]
test('filters select what the server selects', () => {
  const vectors = JSON.parse(data('filter.json').toString()) as { q: string; canonical?: string; match?: string[]; error?: boolean }[]
  for (const v of vectors) {
    const f = parseFilter(v.q)
    assert.equal(f.ok, !v.error, v.q)
    if (!f.ok) continue
    assert.equal(f.canonical, v.canonical, v.q)
    const got = rows.filter(([m, vals]) => matches(f.terms, m as RowMeta, (c) => vals[c] ?? NaN)).map(([m]) => m.name)
    assert.deepEqual(got, v.match, v.q)
  }
})

test('numbers read well', () => {
  assert.deepEqual([bytes(1536), bytes(NaN), duration(0.0000025), duration(0.25), rate(12345), rate(0.001)], ['1.50 KiB', '–', '2.50 µs', '250 ms', '12.3k', '<0.01'])
})

test('dumps of one place are a group, snapshots stand alone, the newest is first', () => {
  const dump = (id: string, at: string, more: Partial<Dump>): Dump =>
    ({ id, container: 'c', name: 'web', image: 'i:1', at, signal: 'SIGSEGV', comm: 'app', threadCount: 1, body: 'full', memoryBytes: 1, storedBytes: 1, ...more })
  const groups = groupDumps([
    dump('a', '2026-05-04T00:00:03Z', { place: 'p+1' }), dump('b', '2026-05-04T00:00:09Z', { place: 'p+1', image: 'i:2' }),
    dump('c', '2026-05-04T00:00:05Z', { place: 'p+1', signal: 'SIGABRT' }), dump('d', '2026-05-04T00:00:07Z', { kind: 'snapshot', place: 'p+1' }), dump('e', '2026-05-04T00:00:01Z', {}),
  ])
  assert.deepEqual(groups.map((g) => [g.dumps.map((d) => d.id).join(), g.what, g.images.length]), [['a,b', 'SIGSEGV', 2], ['d', 'snapshot', 1], ['c', 'SIGABRT', 1], ['e', 'SIGSEGV', 1]])
})

test('a group that the daemon knows has its count and state, also when no dump of it is left', () => {
  const dump: Dump = { id: 'a', container: 'c', name: 'web', image: 'i:1', at: '2026-05-04T00:00:03Z', signal: 'SIGSEGV', comm: 'app', threadCount: 1, body: 'full', memoryBytes: 1, storedBytes: 1, group: 'g1' }
  const known = (id: string, last: string, more: Partial<CrashGroup>): CrashGroup =>
    ({ id, state: 'new', signal: 'SIGSEGV', top: 'walk', comm: 'app', count: 7, first: '2026-05-01T00:00:00Z', last, images: { seen: [{ name: 'i:1', id: 'x', count: 3 }, { name: 'i:1', id: 'y', count: 4 }], others: 1 }, containers: { seen: null }, ...more })
  const groups = groupDumps([dump], [known('g1', '2026-05-04T00:00:03Z', {}), known('g2', '2026-05-04T00:00:09Z', { state: 'regressed', top: '' })])
  assert.deepEqual(groups.map((g) => [g.key, g.title, g.state, g.count, g.dumps.length, g.images.join()]), [['g2', 'app', 'regressed', 7, 0, 'i:1,others'], ['g1', 'walk', 'new', 7, 1, 'i:1,others']])
})

test('frames are lines, and counters that began anew have no negative rates', () => {
  const modules = [{ path: '/usr/bin/app' }]
  assert.equal(frameText({ pc: 16, func: 'walk', file: '/src/a.c', line: 7, inline: true, module: 0 }, modules), 'walk a.c:7 (inlined)')
  assert.equal(frameText({ pc: 16, module: 0, offset: 0x12 }, modules), '0x10 app+0x12')
  assert.equal(frameText({ pc: 16, module: -1, kind: 'jit' }, []), '[jit]')
  const at = (s: number, syscalls: number) => ({ at: new Date(s * 1000).toISOString(), cpuNs: s * 1e9, memory: 1, pids: 1, syscalls, errors: 0 })
  assert.deepEqual(rates([at(0, 100), at(2, 300), at(3, 5)]).map((r) => [r.cpu, r.syscalls]), [[1, 100], [1, 0]])
})

test('a flame graph has callers above what they call, and what is clicked fills it', () => {
  const root = { name: 'all', value: 10, calls: [{ name: 'a', value: 6, calls: [{ name: 'b', value: 3 }] }, { name: 'c', value: 3 }] }
  const seen = (zoom: number[]) => boxes(root, zoom).map((b) => [b.call.name, b.depth, b.left, b.width])
  assert.deepEqual(seen([]), [['all', 0, 0, 1], ['a', 1, 0, 0.6], ['b', 2, 0, 0.3], ['c', 1, 0.6, 0.3]])
  assert.deepEqual(seen([0]), [['all', 0, 0, 1], ['a', 1, 0, 1], ['b', 2, 0, 0.5]])
  assert.deepEqual(boxes({ name: 'all', value: 0 }, []).length, 1)
})

test('a recorded call says when before the dump it was, what came of it, and how long it took', () => {
  const at = Date.parse('2026-05-04T00:00:03Z')
  const call = (more: object): string[] => callRow({ at: '2026-05-04T00:00:02.996Z', text: 'read(3, 0x7f, 10)', result: 10, duration: 0, ...more }, at)
  assert.deepEqual(call({ duration: 2500 }), ['4.0 ms', 'read(3, 0x7f, 10)', '10', '2.50 µs'])
  assert.deepEqual(call({ result: -2, error: 'ENOENT', at: '2026-05-04T00:00:02Z' }), ['1000 ms', 'read(3, 0x7f, 10)', '-1 ENOENT', '–'])
  assert.equal(call({ inCall: true })[2], 'has not returned')
})

test('what questions can have is what the daemon understands', () => {
  const file = readFileSync(new URL('../../../pkg/question/testdata/fields.json', import.meta.url), 'utf8')
  const fields = JSON.parse(file) as Record<string, { where: string[]; by: string[] }>
  assert.deepEqual(Object.keys(METRICS).sort(), Object.keys(fields).sort())
  for (const [name, m] of Object.entries(METRICS)) {
    const f = fields[name]!
    assert.deepEqual(m.where.split(' ').map((w) => w.replace(':NAME', '')), f.where)
    assert.deepEqual(m.by, f.by.filter((b) => b !== 'label')) // one is added by its name
    for (const b of m.first.split(',')) assert.ok(f.by.includes(b), b)
  }
  for (const e of EXAMPLES) for (const b of e.by.split(',')) assert.ok(fields[e.metric]!.by.includes(b), e.title)
})

test('lines are whole, wherever they are cut', () => {
  const lines = new Lines(), bytes = new TextEncoder().encode('{"a":"ü"}\n\n{"b":1}\n{"c"')
  const got = Array.from(bytes, (_, i) => lines.push(bytes.slice(i, i + 1))).flat()
  assert.deepEqual(got, ['{"a":"ü"}', '{"b":1}'])
  assert.deepEqual(lines.push(new TextEncoder().encode(':2}\n')), ['{"c":2}'])
})

const answer = (at: number, rows: Answer['rows'], more: Partial<Answer> = {}): Answer =>
  ({ at: new Date(at).toISOString(), seconds: 1, rows, containers: 2, price: { runs: 10, cpu: 0.01 }, ...more })

test('answers add up by row, with histograms, the rest and what was lost', () => {
  const t = new Tally('comm, errno,latency')
  const h = (first: number, ...counts: number[]) => ({ schema: 2, first, counts })
  t.apply(answer(1000, [
    { key: { comm: 'a', errno: '0' }, count: 3, timed: 2, ns: 2000, bytes: 5, latency: h(-80, 2) }, { key: { comm: 'b', errno: 'EIO' }, count: 1, timed: 0, ns: 0 },
  ]))
  t.apply(answer(2000, [{ key: { comm: 'a', errno: '0' }, count: 1, timed: 1, ns: 7, latency: h(-78, 1) }], { rest: { count: 9, timed: 0, ns: 0 }, lost: 4, containers: 1 }))
  const a = t.rows.get('["a","0"]')!
  assert.deepEqual([a.count, a.timed, a.ns, a.bytes, [...a.latency!.n], a.latency!.first], [4, 3, 2007, 5, [2, 0, 1], -80])
  assert.deepEqual([t.rows.size, t.rest.count, t.lost, t.containers, t.elapsed, t.rate('["a","0"]')], [2, 9, 4, 1, 2, 2])
  assert.deepEqual([...t.seconds[1]!.all.n], [1])
  assert.equal(t.seconds[0]!.rows.size, 1)
})

test('rows and seconds of answers are bounded, and nothing is left out of the sums', () => {
  const t = new Tally('path')
  for (let s = 0; s < 700; s++) t.apply(answer(s * 1000, Array.from({ length: 4 }, (_, i) => ({ key: { path: `${s}/${i}` }, count: 1, timed: 0, ns: 0 }))))
  assert.equal(t.rows.size, 2000)
  assert.equal(t.rest.count, 800)
  assert.equal(t.seconds.length, 600)
})

test('an answer is a column, a late one two, and a lost second is a hole', () => {
  const one = { schema: 2, first: 0, n: new Uint32Array([1]) }
  const at = [1000, 2100, 3950, 5050, 9000].map((t) => ({ t, all: one, rows: new Map() }))
  assert.deepEqual(layOut(at, 9, 9, (s) => s.all).map((c) => (c ? 1 : 0)), [1, 1, 1, 1, 1, 0, 0, 0, 1])
})

test('a trace keeps its last lines and tells what was lost', () => {
  const t = new Trace()
  for (let i = 0; i < TRACE_LINES + 10; i++) t.apply({ text: 'close(1)', tid: 1, comm: 'a' }, i)
  t.apply({ lost: 3 }, 600)
  t.apply({ lost: 4 }, 600)
  assert.equal(t.lines.length, TRACE_LINES)
  assert.deepEqual([t.lines.at(-1)!.e, t.lost, t.calls, t.rate(2009)], [{ lost: 7 }, 7, TRACE_LINES + 10, (TRACE_LINES + 1) / 2])
  assert.equal(tracePath('a/b', { sys: 'open*, close', slower: '5ms', comm: '', errors: true, memory: true }),
    '/triton/v1/containers/a%2Fb/trace?syscall=open*&syscall=close&slower=5ms&errors=true&memory=true')
})

const reading = (seconds: number, more: Partial<ServiceMap['edges'][0]> = {}): ServiceMap => ({
  at: new Date(seconds * 1000).toISOString(), more: 0,
  points: [{ kind: 'container', id: '1', name: 'web' }, { kind: 'container', id: '2', name: 'db' }, { kind: 'address', address: '192.0.2.1' }],
  edges: [
    { from: 0, to: 1, port: 5432, protocol: 'tcp', opened: 1, opening: 0, open: 1, sentBytes: 100, receivedBytes: 1000, retransmits: 0, rtt: 0.001, ...more },
    { from: 2, to: 0, port: 80, protocol: 'tcp', opened: 7, opening: 0, open: 0, sentBytes: 5, receivedBytes: 6, retransmits: 3 },
  ],
})

test('the map tells what came between two readings, and what went wrong', () => {
  const first = arrows(null, reading(10))
  assert.ok(Number.isNaN(first[0]!.sent) && first[0]!.wrong === '' && first[1]!.wrong === '', 'one reading has no rates, and tells nothing new')
  const after = reading(12, { sentBytes: 300, receivedBytes: 1000, opened: 5, failed: { refused: 2 }, retransmits: 1, drops: { netfilter_drop: 4 } })
  after.points.reverse() // numbers of points differ from reading to reading
  for (const e of after.edges) [e.from, e.to] = [2 - e.from, 2 - e.to]
  const [db, web] = arrows(reading(10), after)
  assert.deepEqual([db!.sent, db!.received, db!.opened, db!.wrong], [100, 0, 2, '2 failed, 1 sent again, 4 dropped'])
  assert.deepEqual([web!.from, web!.to, web!.sent, web!.wrong], ['address 192.0.2.1', 'container 1', 0, ''])
})

test('the map draws who asks left of who is asked, also in circles and with too many points', () => {
  const edge = (from: string, to: string) => ({ from, to, ports: [], bytes: 1, open: 1, rtt: NaN, wrong: [] })
  const column = Object.fromEntries(layout(['a', 'b', 'c', 'd'], [edge('a', 'b'), edge('b', 'c'), edge('a', 'c'), edge('c', 'a')]).map((s) => [s.key, s.column]))
  assert.deepEqual(column, { a: 0, b: 1, c: 2, d: 0 })
  const many = Array.from({ length: 200 }, (_, i) => 'p' + i)
  const spots = layout(many, many.slice(1).map((k) => edge('p0', k)))
  assert.equal(spots.length, POINTS_DRAWN)
  assert.equal(new Set(spots.map((s) => s.column + ',' + s.row)).size, POINTS_DRAWN, 'no two at one place')
  const lines = merged(arrows(null, { ...reading(1), edges: [...reading(1).edges, { ...reading(1).edges[0]!, port: 80 }, { ...reading(1).edges[0]!, to: 0 }] }))
  assert.deepEqual(lines.map((l) => l.ports), [['5432', '80'], ['80']], 'ports of one pair are one line, its own are none')
  assert.deepEqual(['other', 'rest', 'address'].map((kind) => labelOf({ kind })), ['other tenants', 'found no room', 'other addresses'])
})

test('readings tell what came between, also when a container began anew', () => {
  const h = (...counts: number[]) => ({ schema: 2, first: -8, counts, sumNs: counts.reduce((n, c) => n + c, 0) * 2e6 })
  assert.deepEqual([...since(h(1, 2, 3), h(1, 5, 4)).n], [0, 3, 1])
  assert.deepEqual([...since(h(9, 2, 3), h(1, 5, 4)).n], [1, 5, 4], 'one that fell began anew')
  assert.deepEqual([...since(undefined, h(1, 2)).n], [1, 2])
  assert.deepEqual([gained(3, 5), gained(5, 3), gained(undefined, 3)], [2, 3, 3])
  assert.equal(meanOf(h(1, 3)), 0.002)
  assert.ok(Number.isNaN(meanOf({ schema: 2, first: 0, sumNs: 0 })))
  const at = (s: number) => ({ at: new Date(s * 1000).toISOString() })
  const kept: Gain[] = []
  keepGain(kept, at(10), at(11), [since(h(1, 1), h(2, 1)), since(h(1, 1), h(1, 4))])
  keepGain(kept, at(11), at(20), [since(h(1, 1), h(2, 2))])
  assert.deepEqual(kept.map((g) => [g.t, total(g.n), quantile(g.n, 1)]), [[11_000, 4, bound(2, -7)]], 'over a hole nothing is known')
})
