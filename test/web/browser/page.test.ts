// The page in chromium against a real daemon with real containers; see ../page_test.go, which starts both.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import type { Browser, Page } from 'playwright-core'
import { launch, tab, until, type Tab } from './chrome'
import { costTests } from './cost'
import { questionTests, type Stage } from './questions'
import { endTests, readingTests, unreadTests } from './readings'

const env = (name: string): string => process.env[name] ?? assert.fail(name + ' is not set')
const link = env('PAGE_LINK'), control = env('PAGE_CONTROL'), fleet = env('PAGE_FLEET')
const base = link.slice(0, link.indexOf('/login#'))
const axe = readFileSync(createRequire(process.cwd() + '/').resolve('axe-core/axe.min.js'), 'utf8')
const docker = async (...args: string[]): Promise<string> => (await promisify(execFile)('docker', args)).stdout.trim()
const hands = async (what: string): Promise<void> => {
  const r = await fetch(control + '/' + what, { method: 'POST' })
  assert.ok(r.ok, what + ': ' + (await r.text()))
}

let browser: Browser
let main: Tab
let page: Page
let busy = '', pace = ''

before(async () => {
  const run = (...args: string[]) => docker('run', '-d', ...args)
  ;[busy, pace, browser] = await Promise.all([
    run('--name', 'busy', '--cpus', '0.5', '--label', 'team=edge', 'programs', 'sh', '-c', 'while :; do :; done'),
    run('--name', 'pace', 'programs', 'pace', '20000'),
    launch(),
  ])
  main = await tab(browser, base)
  page = main.page
})
after(async () => browser?.close())

const row = (id: string) => page.locator(`.row[data-id="${id}"]`)
const shot = async (p: Page, name: string): Promise<void> => {
  const dir = process.env.PAGE_SHOTS
  if (dir) await p.screenshot({ path: `${dir}/${name}.png` })
}

async function accessible(p: Page, what: string): Promise<void> {
  await p.evaluate(axe)
  const found = await p.evaluate(async () => {
    const r = await (window as unknown as { axe: { run(): Promise<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }> } }).axe.run()
    return r.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html.slice(0, 120) + ' ' + n.failureSummary.replaceAll('\n', ' ')).slice(0, 3).join(' | ')}`)
  })
  assert.deepEqual(found, [], what)
}

test('without a login there is a way in and nothing else; the link signs in and leaves no token in the URL', async () => {
  assert.equal((await fetch(base + '/triton/v1/ws')).status, 401)
  await page.goto(base + '/c')
  await page.waitForSelector('h1:has-text("Signed out")')
  await accessible(page, 'signed out')
  await shot(page, 'signed-out')
  await page.goto(link)
  await row(busy).waitFor({ timeout: 15_000 })
  assert.ok(page.url().endsWith('/c'), page.url())
})

test('CPU on the page is the CPU of the cgroup within 0.03 core', async () => {
  const name = env('PAGE_CGROUP') + '/' + busy
  const file = [`/sys/fs/cgroup/unified/${name}/cpu.stat`, `/sys/fs/cgroup/${name}/cpu.stat`].find(existsSync) ?? assert.fail('no cgroup ' + name)
  const used = (): { t: number; us: number } => ({ t: performance.now(), us: Number(/usage_usec (\d+)/.exec(readFileSync(file, 'utf8'))?.[1]) })
  const readings = [used()]
  const end = Date.now() + 8000
  while (Date.now() < end) {
    await new Promise((r) => setTimeout(r, 100))
    readings.push(used())
  }
  const shown = Number(await row(busy).locator('[data-col=cpu]').textContent())
  // What is shown is the mean of five samples, the newest of which is up to a second and a half old.
  const now = readings.at(-1)!
  const rates = [0.2, 0.5, 0.8, 1.1, 1.4].map((late) => {
    const at = (ms: number) => readings.reduce((a, b) => (Math.abs(b.t - (now.t - ms)) < Math.abs(a.t - (now.t - ms)) ? b : a))
    const a = at(late * 1000 + 5000), b = at(late * 1000)
    return (b.us - a.us) / 1000 / (b.t - a.t)
  })
  const low = Math.min(...rates) - 0.03, high = Math.max(...rates) + 0.03
  assert.ok(shown >= low && shown <= high, `shown ${shown}, the cgroup says ${rates.map((r) => r.toFixed(3)).join(' ')}`)
})

test('a call of 20 ms lands in its bucket, and its rate is the program\'s own', async () => {
  await page.goto(`${base}/c/${pace.slice(0, 12)}/syscalls`)
  const cell = (call: string, col: string) => page.locator(`tr[data-call=${call}] td[data-col=${col}]`)
  await until('five seconds are in the table', 15_000, async () => /last [4-7] s/.test((await page.locator('caption').textContent()) ?? ''))
  assert.equal(await cell('clock_nanosleep', 'p50').textContent(), '31.3 ms') // (15.6 ms, 31.3 ms]
  const sleeps = Number(await cell('clock_nanosleep', 'rate').textContent())
  const lines = (await docker('logs', '-t', '--tail', '12', 'pace')).split('\n').map((l) => ({ t: Date.parse(l.split(' ')[0]!), n: Number(l.split(' ')[1]) }))
  const a = lines[0]!, b = lines.at(-1)!
  const own = (b.n - a.n) / (b.t - a.t) * 1000
  assert.ok(Math.abs(sleeps / own - 1) < 0.15, `the page says ${sleeps}/s, the program ${own.toFixed(1)}/s`)
  const calls = Number(await cell('getpriority', 'rate').textContent())
  assert.ok(Math.abs(calls / sleeps - 10) < 0.3, `${calls} calls of getpriority for ${sleeps} sleeps`)
  assert.equal(await cell('getpriority', 'errors').textContent(), '0')
  // The same in the map: between 16 and 32 ms there are calls in the last seconds, above a second there are none.
  const canvas = page.locator('[data-slot=calls] canvas')
  const box = await canvas.boundingBox()
  assert.ok(box)
  const count = async (seconds: number): Promise<number> => {
    let n = 0
    for (const back of [2.5, 3.5]) {
      await page.mouse.move(box.x + box.width * (1 - back / 60), box.y + box.height * (1 - (Math.log2(seconds) + 22) / 26))
      n += Number((await page.locator('.tip span').last().textContent())?.replace(/\D.*$/, ''))
    }
    return n
  }
  const near = (await Promise.resolve([0.0195, 0.0215, 0.026])).map((s) => () => count(s))
  let seen = 0
  for (const f of near) seen += await f()
  assert.ok(seen > 20, `${seen} calls of 19 to 26 ms in two seconds`)
  assert.equal(await count(2), 0)
})

test('a container that is sampled says so, and its numbers are marked as estimates', async () => {
  const id = await docker('run', '-d', '--name', 'guessed', '--label', 'triton.watch=sampled', 'programs', 'pace', '20000')
  await page.goto(`${base}/c/${id.slice(0, 12)}/syscalls`)
  await page.waitForSelector('.level:has-text("measured: sampled")')
  const rateOf = page.locator('tr[data-call=clock_nanosleep] td[data-col=rate]')
  await until('its rate is an estimate', 25_000, async () => (await rateOf.count()) > 0 && /^~\d/.test((await rateOf.textContent()) ?? ''))
  await until('its tile is one', 15_000, async () => /^~\d/.test((await page.locator('[data-tile="Syscalls/s"] b').textContent()) ?? ''))
  assert.match((await page.locator('caption').textContent()) ?? '', /~ is an estimate/)
  await accessible(page, 'sampled')
  await page.goto(base + '/c')
  await until('its row is marked', 15_000, async () => /^~\d/.test((await row(id).locator('[data-col=syscalls]').textContent()) ?? ''))
  await docker('rm', '-f', 'guessed')
})

test('a reload shows the same: filter, order, tab and time are in the URL', async () => {
  await page.goto(base + '/c')
  await page.fill('#filter', 'label:team=edge')
  await until('only one row is left', 5000, async () => (await page.locator('.row[data-id]').count()) === 1)
  await page.click('button:has-text("Memory")')
  await page.click('button:has-text("5m")')
  const url = page.url()
  await page.reload()
  await row(busy).waitFor()
  assert.equal(page.url(), url)
  assert.equal(await page.locator('.row[data-id]').count(), 1)
  assert.equal(await page.inputValue('#filter'), 'label:team=edge')
  assert.equal(await page.locator('[aria-sort=descending]').textContent(), 'Memory▾')
  await page.fill('#filter', 'cpu:1')
  assert.match((await page.textContent('#filter-note')) ?? '', /is a number/)
})

test('the keyboard reaches everything', async () => {
  await page.goto(base + '/c?sort=name')
  await row(busy).waitFor()
  await page.keyboard.press('j')
  await page.keyboard.press('Enter')
  await page.waitForURL('**/c/' + busy.slice(0, 12) + '**')
  const at = (url: URL) => Number(url.searchParams.get('t'))
  await page.keyboard.press('Space')
  await page.waitForURL((url) => at(url) > 0)
  const paused = at(new URL(page.url()))
  await page.keyboard.press('[')
  await page.waitForURL((url) => at(url) > 0 && at(url) < paused)
  await page.keyboard.press('Space')
  await page.waitForURL((url) => at(url) === 0)
  await page.keyboard.press('?')
  await page.waitForSelector('dialog[open]')
  await accessible(page, 'help')
  await page.keyboard.press('Escape')
  await page.waitForSelector('dialog[open]', { state: 'detached' })
  await page.keyboard.press('g')
  await page.keyboard.press('c')
  await row(busy).waitFor()
  await page.keyboard.press('/')
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'filter')
})

test('the log follows, and what is in it stays text', async () => {
  await page.goto(`${base}/c/${pace.slice(0, 12)}/logs`)
  const lines = page.locator('.lines > div')
  await lines.first().waitFor()
  const before = await lines.count()
  await until('new lines come', 5000, async () => (await lines.count()) > before)
  assert.match((await lines.last().textContent()) ?? '', /\d+ <b>rounds<\/b>/)
  assert.equal(await page.locator('.lines b').count(), 0)
  assert.ok(await page.evaluate(() => {
    const el = document.querySelector('.lines')!
    return el.scrollTop + el.clientHeight > el.scrollHeight - 30
  }), 'the last line is in view')
})

test('events tell of the start', async () => {
  await page.goto(`${base}/c/${pace.slice(0, 12)}/events`)
  await page.waitForSelector('.events td:has-text("start")')
})

test('a terminal runs a shell and tells its exit code', async () => {
  await page.goto(`${base}/c/${busy.slice(0, 12)}/exec`)
  await page.click('text=Open terminal')
  await page.waitForSelector('.xterm-screen')
  await until('the shell answers', 10_000, async () => {
    await page.keyboard.type('echo $((6*7))ab\r')
    return (await page.locator('.xterm-accessibility').textContent())?.includes('42ab')
  })
  await shot(page, 'terminal')
  await page.keyboard.type('exit 3\r')
  await page.waitForSelector('text=ended with exit code 3')
})

/** What a daemon would say of two bugs, of which one crashed in two containers: made up, since only one daemon of a machine takes its crashes. */
async function groupsFilter(): Promise<void> {
  const at = new Date().toISOString()
  const dump = (id: string, group: string, name: string) =>
    ({ id, group, name, container: name, image: 'shop:1', at, signal: 'SIGSEGV', comm: 'app', top: 'parse', threadCount: 1, body: 'mini', memoryBytes: 1, storedBytes: 1 })
  const group = (id: string, top: string, state: string, count: number) =>
    ({ id, top, state, count, signal: 'SIGSEGV', comm: 'app', first: at, last: at, images: { seen: [{ name: 'shop:1', count }] }, containers: { seen: [{ name: 'a1', count }] } })
  const answers: Record<string, unknown> = {
    cores: { cores: [dump('d1', 'g1', 'a1'), dump('d2', 'g2', 'b1'), dump('d3', 'g1', 'a2')] },
    'core-groups': { groups: [group('g1', 'parse', 'regressed', 40), group('g2', 'render', 'known', 1)] },
  }
  for (const [path, json] of Object.entries(answers)) await page.route('**/triton/v1/' + path, (r) => r.fulfill({ json }))
  const rows = page.locator('.crashes tbody tr')
  await page.locator('[data-group="g1"] button').waitFor({ timeout: 15_000 })
  assert.match(await page.locator('[data-group="g1"]').innerText(), /parse\s+SIGSEGV\s+regressed\s+40\b/)
  assert.equal(await rows.count(), 2)
  await accessible(page, 'crash groups')
  await shot(page, 'groups')
  await page.click('[data-group="g1"] button')
  await page.waitForSelector('.crashes :text("2 dumps are kept")')
  assert.deepEqual(await page.locator('.crashes tbody th').allInnerTexts(), ['d1', 'd3'])
  assert.equal(new URL(page.url()).searchParams.get('group'), 'g1')
  await accessible(page, 'crashes of a group')
  await shot(page, 'group')
  await page.keyboard.press('Escape')
  await page.locator('[data-group="g2"]').waitFor()
  for (const path of Object.keys(answers)) await page.unroute('**/triton/v1/' + path)
}

/** Each link of a dump's page leads to what its name says, under the name that it is saved by. */
async function downloads(id: string): Promise<void> {
  const links = page.locator('.crash .downloads a')
  const seen: Record<string, string> = {}
  for (const a of await links.all()) {
    const got = await page.evaluate(async (href) => {
      const r = await fetch(href, { headers: { Range: 'bytes=0-255' } })
      const text = await r.text()
      return `${r.status} ${r.headers.get('etag') !== null} ${/^\x7fELF/.test(text) ? 'ELF' : text.includes('ustar') || /^[0-9a-f]{12}\//.test(text) ? 'tar' : text.slice(0, 7)}`
    }, await a.getAttribute('href') ?? '')
    seen[await a.getAttribute('download') ?? ''] = got
  }
  assert.deepEqual(Object.keys(seen), [`bundle.${id}.tar`, `core.${id}`, `mini.${id}`, `${id}.json`])
  assert.match(seen[`bundle.${id}.tar`]!, /^20[06] .* tar$/)
  assert.equal(seen[`core.${id}`], '206 true ELF')
  assert.equal(seen[`mini.${id}`], '206 true ELF')
  assert.match(seen[`${id}.json`]!, /^20[06] .*\{/)
}

/** Those of a Go program beside the real threads: made up, since there is no Go program in the images. */
async function goroutines(id: string): Promise<void> {
  const path = `**/triton/v1/cores/${id}/backtrace`
  const many = Array.from({ length: 203 }, (_, i) => ({ id: i + 7, state: 'waiting', frames: [{ pc: 4096, func: 'main.worker', file: '/src/worker.go', line: 12 + i, module: -1 }] }))
  let answered = 'the stacks were not asked for'
  await page.route(path, async (r) => {
    answered = 'the stacks were not answered'
    const real = await r.fetch({ timeout: 60_000 })
    answered = `${real.status()} ${await real.text()}`
    await r.fulfill(real.ok() ? { response: real, json: { ...(await real.json() as object), goroutines: many } } : { response: real })
  })
  await page.reload()
  const summary = page.locator('.crash summary:has-text("203 goroutines that did not run")')
  await summary.click({ timeout: 75_000 }).catch((e: Error) => { throw new Error(`${answered.slice(0, 500)}: ${e.message}`) })
  const part = page.locator('.crash details:has(> summary:has-text("203 goroutines"))')
  const text = await part.innerText()
  for (const want of ['goroutine 7 [waiting]', 'main.worker worker.go:12', 'and 3 more: triton cores bt -all']) assert.ok(text.includes(want), want + ' in\n' + text.slice(0, 2000))
  assert.ok(!text.includes('goroutine 207 '), 'more than 200 are shown')
  await accessible(page, 'goroutines')
  await page.unroute(path)
}

test('a snapshot is listed, and its page has threads, downloads and what the container did', async () => {
  const made = await page.evaluate(async (id) => {
    const r = await fetch(`/triton/v1/containers/${id}/snapshot`, { method: 'POST' })
    return { status: r.status, body: await r.json() as { id: string; message?: string } }
  }, pace)
  assert.equal(made.status, 200, made.body.message)
  await page.goto(base + '/c')
  await row(pace).waitFor()
  await page.keyboard.press('g')
  await page.keyboard.press('d')
  await page.locator('.crashes tbody tr').first().waitFor()
  assert.match(await page.locator('.crashes tbody tr').first().innerText(), /pace\s+snapshot\s+1\b/)
  await accessible(page, 'crashes')
  await shot(page, 'crashes')
  await page.click('.crashes tbody a')
  await page.waitForSelector('.crash h1:has-text("pace")')
  const text = await page.locator('.crash').innerText()
  for (const want of ['Bundle for gdb', 'full: ', 'Thread', made.body.id]) assert.ok(text.includes(want), want + ' in\n' + text)
  await downloads(made.body.id)
  await page.click('.crash summary:has-text("Last system calls")')
  const calls = page.locator('.crash details:has(> summary:has-text("Last system calls")) tbody tr')
  await calls.first().waitFor()
  assert.match((await calls.allInnerTexts()).join('\n'), /getpriority\(.*\s20\s/)
  await accessible(page, 'a crash')
  await shot(page, 'crash')
  await goroutines(made.body.id)
  await page.keyboard.press('Escape')
  await page.waitForSelector('.crashes')
  await groupsFilter()
  await page.keyboard.press('g')
  await page.keyboard.press('c')
  await row(pace).waitFor()
})

const stage: Stage = { base, page: () => page, pace: () => pace, busy: () => busy, docker, hands, shot, accessible }
questionTests(stage)
readingTests(stage)
endTests(stage)
costTests(stage, env('PAGE_PID'))

/** A shop of a dozen containers, as a daemon would tell of it: for the eye, and for what a picture must keep to. */
async function shopMap(): Promise<void> {
  const names = ['edge', 'web-1', 'web-2', 'cart', 'search', 'orders', 'payments', 'redis', 'postgres', 'queue', 'mailer', 'index']
  const points = [...names.map((name, i) => ({ kind: 'container', id: String(i).padStart(64, '0'), name })), { kind: 'address', address: '203.0.113.7' }, { kind: 'address', address: '198.51.100.20' }, { kind: 'other' }]
  const of = (name: string) => (name === 'client' ? 12 : name === 'bank' ? 13 : name === 'other' ? 14 : names.indexOf(name))
  const asks = 'client edge 443,edge web-1 8080,edge web-2 8080,web-1 cart 7000,web-2 cart 7000,web-1 search 7001,web-2 search 7001,cart redis 6379,search index 9200,web-1 orders 7002,web-2 orders 7002,orders postgres 5432,cart postgres 5432,orders payments 7003,payments bank 443,payments postgres 5432,orders queue 5672,mailer queue 5672,other redis 6379'
  let t = 0
  const answer = () => ({
    at: new Date(Date.now() + 1000 * ++t).toISOString(), more: 0, points,
    edges: asks.split(',').map((a, i) => {
      const [from, to, port] = a.split(' ') as [string, string, string]
      return { from: of(from), to: of(to), port: Number(port), protocol: 'tcp', opened: 10 * t, opening: 0, open: i % 3, sentBytes: t * 10 ** (2 + i % 5), receivedBytes: t * 10 ** (1 + i % 6),
        retransmits: to === 'bank' ? 3 * t : 0, rtt: 0.0001 * (i + 1), ...(to === 'payments' && { failed: { refused: 2 * t } }) }
    }),
  })
  await page.route('**/triton/v1/map', (r) => r.fulfill({ json: answer() }))
  await page.locator('.picture .wrong').nth(1).waitFor({ timeout: 15_000 })
  await page.waitForSelector('.map td:has-text(" KiB")')
  await accessible(page, 'the map of a shop')
  await shot(page, 'map-shop')
  const boxes = await page.locator('.picture .point rect').evaluateAll((all) => all.map((r) => { const b = r.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom] as const }))
  assert.equal(boxes.length, points.length)
  for (const [i, a] of boxes.entries()) {
    for (const b of boxes.slice(i + 1)) assert.ok(a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1], 'two points lie over one another')
  }
  await page.unroute('**/triton/v1/map')
}

test('the map shows which container asks which, and how it goes', async () => {
  const server = await docker('run', '-d', '--name', 'map-db', 'programs', 'sh', '-c', 'sleep 1000 | nc -l -p 80 >/dev/null')
  const address = await docker('inspect', '-f', '{{.NetworkSettings.Networks.bridge.IPAddress}}', server)
  const script = `until head -c 30000 /dev/zero | nc ${address} 80; do :; done; while :; do nc ${address} 81; sleep 0.2; done`
  const client = await docker('run', '-d', '--name', 'map-web', 'programs', 'sh', '-c', script)
  await page.keyboard.press('g')
  await page.keyboard.press('m')
  const edge = (port: number) => page.locator('.map tbody tr', { hasText: 'map-web' }).filter({ has: page.locator(`td:text-is("${port}")`) })
  await edge(80).waitFor({ timeout: 15_000 })
  await until('failures are told as they happen', 15_000, async () => /[1-9]\d* failed/.test(await edge(81).innerText()))
  assert.match(await edge(80).innerText(), /map-web\s+map-db\s+80\s/)
  await accessible(page, 'map')
  await shot(page, 'map')
  const left = async (name: string) => (await page.locator(`.picture [data-point="${name}"] rect`).boundingBox())!.x
  assert.ok(await left('map-web') < await left('map-db'), 'who asks is left of who is asked')
  await shopMap()
  await page.locator('.picture [data-point="map-web"] a').click()
  await page.waitForSelector('article')
  assert.ok(page.url().includes('/c/' + client), page.url())
  await docker('rm', '-f', server, client)
  await page.goto(base + '/c')
  await row(pace).waitFor()
})

test('no accessibility violation in either theme, with data', async () => {
  for (const theme of ['dark', 'light'] as const) {
    const t = await tab(browser, base, { theme })
    await t.context.addCookies(await main.context.cookies())
    for (const path of ['/c', '/map', '/cost', ...['syscalls', 'waits', 'disks', 'network', 'dns', 'trace', 'events', 'logs', 'exec'].map((x) => `/c/${pace.slice(0, 12)}/${x}`), '/ask', '/ask?m=syscall&by=comm,latency']) {
      await t.page.goto(base + path)
      await t.page.waitForSelector(path === '/c' ? '.row[data-id]' : path === '/map' ? '.map' : path === '/cost' ? '[data-program=all]' : path === '/ask' ? '.examples' : path.startsWith('/ask') ? '.asked tbody tr' : '.panel > :not([aria-busy])')
      await accessible(t.page, `${path} ${theme}`)
      await shot(t.page, `real${path.replaceAll('/', '-').replace(pace.slice(0, 12), 'pace')}-${theme}`)
    }
    assert.deepEqual(t.problems, [])
    await t.context.close()
  }
})

test('a kill of the daemon shows, the page comes back by itself, and the time between is a hole', async () => {
  await page.goto(`${base}/c/${pace.slice(0, 12)}/syscalls`)
  await until('some seconds are there', 15_000, async () => Number(await page.locator('article').getAttribute('data-seconds')) > 3)
  await hands('kill')
  await page.waitForSelector('.pill[data-state=waiting]')
  await accessible(page, 'disconnected')
  await until('the data are said to be old', 10_000, async () => /data [4-9] s old/.test((await page.locator('.pill').first().textContent()) ?? ''))
  await shot(page, 'disconnected')
  const started = Date.now()
  await hands('start')
  const serving = Date.now()
  await page.waitForSelector('.pill[data-state=live]', { timeout: 15_000 })
  const back = Date.now() - serving
  await until('seconds of after are there', 10_000, async () => {
    const last = Number(await page.locator('[data-slot=calls]').getAttribute('data-last'))
    return last * 1000 > started + 3000 && /live/.test((await page.locator('.pill').first().textContent()) ?? '')
  })
  const holes = Number(await page.locator('.heats').getAttribute('data-holes'))
  assert.ok(holes >= 3, `${holes} seconds are shown as unknown`)
  assert.ok(Number(await page.locator('article').getAttribute('data-seconds')) > 3, 'what was known before is still there')
  assert.ok(back < 11_000, `live ${back} ms after the daemon served`)
  await shot(page, 'gap')
})

unreadTests(stage)

test('a page that cannot keep up is told what it lost', async () => {
  await page.goto(base + '/c')
  await row(busy).waitFor()
  await page.evaluate(() => {
    for (const end = Date.now() + 17_000; Date.now() < end; );
  })
  await page.waitForSelector('.drops', { timeout: 15_000 })
  assert.match((await page.textContent('.drops')) ?? '', /^\d+ updates skipped$/)
})

test('a removed container leaves the table within two seconds', async () => {
  const id = await docker('run', '-d', '--name', 'brief', 'programs', 'sleep', '100')
  await row(id).waitFor()
  await docker('rm', '-f', 'brief')
  await until('the row leaves', 2500, async () => (await row(id).count()) === 0)
})

test('another tenant sees nothing, in either theme, and no layout breaks', async () => {
  for (const theme of ['dark', 'light'] as const) {
    for (const [width, height] of [[1440, 900], [390, 844]] as const) {
      const mine = await tab(browser, fleet, { theme, width, height })
      await mine.page.goto(fleet + '/c#login=acme')
      await mine.page.waitForSelector('.row[data-id]')
      assert.equal(await mine.page.locator('.rail a:has-text("Cost")').count(), 0, 'what is about the machine is for operators')
      const id = await mine.page.locator('.row[data-id]').first().getAttribute('data-id')
      assert.ok(await mine.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is wider than the window')
      const tops = await mine.page.locator('.row[data-id]').evaluateAll((rows) => rows.map((r) => r.getBoundingClientRect().top))
      assert.ok(tops.every((t, i) => i === 0 || Math.abs(t - tops[i - 1]! - 28) < 0.6), 'rows are 28 pixels apart')
      await shot(mine.page, `containers-${theme}-${width}`)
      for (const t of ['syscalls', 'events', 'logs']) {
        await mine.page.goto(`${fleet}/c/${id?.slice(0, 12)}/${t}`)
        await mine.page.waitForSelector('.panel table, .panel .lines > div')
        assert.ok(await mine.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), t + ' is not wider than the window')
        assert.ok((await mine.page.locator('.tabs').boundingBox())!.height > 20, 'the tabs are seen')
        await shot(mine.page, `${t}-${theme}-${width}`)
      }
      await mine.page.goto(fleet + '/c?q=nothing-has-this-name')
      await mine.page.waitForSelector('text=Nothing matches')
      await accessible(mine.page, 'nothing matches ' + theme)
      await mine.context.close()
      const other = await tab(browser, fleet, { theme, width, height })
      await other.page.goto(fleet + '/c#login=other')
      await other.page.waitForSelector('text=No containers yet')
      await accessible(other.page, 'empty ' + theme)
      await shot(other.page, `empty-${theme}-${width}`)
      await other.page.goto(`${fleet}/c/${id}`)
      await other.page.waitForSelector('text=There is no such container')
      await other.context.close()
    }
  }
})

test('the page made no error and no request elsewhere', () => {
  assert.deepEqual(main.problems, [])
})
