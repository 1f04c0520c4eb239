// What the tabs of a container tell of waits, disks, network and names, against what the containers and their server know themselves.
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { test } from 'node:test'
import { until } from './chrome'
import type { Stage } from './questions'

const NS = /* codes of DNS */ { A: 1, NXDOMAIN: 3 }

/** A name server: names under found. have an address, others do not exist; each answer takes so many ms. asked counts questions by name and type. */
async function serveNames(address: string, delay: number): Promise<{ asked: Map<string, number>; close(): void }> {
  const socket = createSocket('udp4'), asked = new Map<string, number>()
  socket.on('message', (q, from) => {
    const labels: string[] = []
    let at = 12
    for (let n = q[at]!; n; n = q[at]!) {
      labels.push(q.toString('latin1', at + 1, at + 1 + n))
      at += n + 1
    }
    const type = q.readUInt16BE(at + 1), end = at + 5, found = labels.at(-1) === 'found', name = `${labels.join('.')}. ${type}`
    asked.set(name, (asked.get(name) ?? 0) + 1)
    const has = found && type === NS.A
    const a = Buffer.concat([q.subarray(0, end), has ? Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]) : Buffer.alloc(0)])
    a.writeUInt16BE(0x8180 | (found ? 0 : NS.NXDOMAIN), 2)
    a.writeUInt16BE(has ? 1 : 0, 6)
    for (const field of [8, 10]) a.writeUInt16BE(0, field)
    setTimeout(() => socket.send(a, from.port, from.address), delay)
  })
  await new Promise<void>((listening, failed) => socket.once('error', failed).bind(53, address, listening))
  return { asked, close: () => socket.close() }
}

/** Seconds of what the page has as a duration. */
function seconds(text: string | null): number {
  const m = /^~?([\d.]+) (ns|µs|ms|s)$/.exec(text ?? '') ?? assert.fail(`no duration: ${text}`)
  return Number(m[1]) * { ns: 1e-9, 'µs': 1e-6, ms: 1e-3, s: 1 }[m[2] as 'ns']
}

export function readingTests(s: Stage): void {
  const cell = (row: string, col: string) => s.page().locator(`tr[${row}] td[data-col="${col}"]`)
  const open = async (id: string, tab: string): Promise<void> => {
    await s.page().goto(`${s.base}/c/${id.slice(0, 12)}/${tab}`)
    await s.page().waitForSelector('.panel .readings')
  }
  const seen = async (name: string): Promise<void> => {
    await s.accessible(s.page(), name)
    await s.shot(s.page(), name)
  }

  test('waits are told by reason: one that sleeps 20 ms again and again does hardly anything else', async () => {
    await open(s.pace(), 'waits')
    await until('it sleeps most of the time', 20_000, async () => {
      const rate = Number(await cell('data-wait="sleep"', 'rate').textContent().catch(() => '0'))
      return rate > 0.6 && rate < 1.05
    })
    await open(s.busy(), 'waits')
    await until('half a core waits for the other half', 20_000, async () => Number(await cell('data-wait="cpu"', 'rate').textContent().catch(() => '0')) > 0.2)
    await seen('waits')
  })

  test('disks are told by device and direction, as much as was written, and in the heatmap', async () => {
    const id = await s.docker('run', '-d', '--name', 'writes', '-v', '/data', 'programs', 'sh', '-c',
      'while dd if=/dev/zero of=/data/f bs=4096 count=16 oflag=direct conv=notrunc 2>/dev/null; do echo written; sleep 0.1; done')
    await open(id, 'disks')
    const row = s.page().locator('tr[data-disk$=" write"]')
    const written = async () => (await s.docker('logs', 'writes')).split('\n').length * 16
    const shown = async () => (await row.locator('[data-col=requests]').allTextContents()).reduce((n, t) => n + Number(t.replaceAll(',', '')), 0)
    await row.first().waitFor({ timeout: 15_000 })
    const least = await written()
    await until(`at least ${least} requests`, 10_000, async () => (await shown()) >= least)
    assert.ok(seconds(await row.first().locator('[data-col=p99]').textContent()) < 10)
    await until('the heatmap has them', 10_000, async () => /\d/.test((await s.page().locator('[data-slot=disks] [data-q=p50]').textContent()) ?? ''))
    await seen('disks')
    await s.docker('rm', '-f', 'writes')
  })

  test('who accepts late is told by how much', async () => {
    const server = await s.docker('run', '-d', '--name', 'late', 'programs', 'sh', '-c', 'head -c 300000 /dev/zero >/tmp/f; exec httpd -f -p 80 -h /tmp')
    const address = await s.docker('inspect', '-f', '{{.NetworkSettings.Networks.bridge.IPAddress}}', 'late')
    await open(server, 'network')
    await s.docker('pause', 'late') // its listening socket takes connections all the same, and nobody accepts them
    const begun = performance.now()
    await s.docker('run', '-d', '--name', 'asks', 'programs', 'sh', '-c', `while :; do printf 'GET /f HTTP/1.0\\r\\n\\r\\n' | nc ${address} 80 >/dev/null; nc ${address} 81; sleep 0.1; done`)
    await new Promise((r) => setTimeout(r, 1000))
    await s.docker('unpause', 'late')
    const most = (performance.now() - begun) / 1000
    await until('the first is accepted', 10_000, async () => Number(await cell('data-tcp="accept"', 'all').textContent()) > 0)
    const first = seconds(await cell('data-tcp="accept"', 'p99').textContent())
    assert.ok(first >= 0.5 && first < most * 1.2, `accepted after ${first} s, though nobody did for at least half a second and at most ${most} s`)
    await until('round trips are in the heatmap', 10_000, async () => /\d/.test((await s.page().locator('[data-slot=rtt] [data-q=p50]').textContent()) ?? ''))
    await seen('network')
    await open(await s.docker('inspect', '-f', '{{.Id}}', 'asks'), 'network')
    await until('refusals are counted', 10_000, async () => Number(await cell('data-wrong="connect failed: refused"', 'all').textContent().catch(() => '0')) > 0)
    await s.docker('rm', '-f', 'late', 'asks')
  })

  test('names are told as the name server has them, with codes and times', async () => {
    const gateway = await s.docker('network', 'inspect', '-f', '{{(index .IPAM.Config 0).Gateway}}', 'bridge')
    const names = await serveNames(gateway, 20)
    const id = await s.docker('run', '-d', '--name', 'names', '--dns', gateway, 'programs', 'sh', '-c', 'for i in 1 2 3 4 5; do nslookup web.found; done; nslookup nobody.lost; echo done; sleep 1000')
    await until('it has asked', 30_000, async () => (await s.docker('logs', 'names')).endsWith('done'))
    await open(id, 'dns')
    const rows = s.page().locator('tr[data-name]'), types: Record<string, number> = { A: 1, AAAA: 28 }
    const shown = async () => new Map(await Promise.all((await rows.all()).map(async (r): Promise<[string, number]> => {
      const [name, type, asked] = await r.locator('th, td').allTextContents()
      return [`${name} ${types[type!]}`, Number(asked)]
    })))
    await until('the page has what the server has', 10_000, async () => {
      const page = await shown()
      return page.size === names.asked.size && [...names.asked].every(([name, n]) => page.get(name) === n)
    })
    assert.equal(names.asked.get('web.found. 1'), 5)
    const lost = [...names.asked].filter(([name]) => name.startsWith('nobody.lost.')).reduce((n, [, c]) => n + c, 0)
    assert.equal(Number(await s.page().locator('[data-dns=NXDOMAIN] b').textContent()), lost)
    const mean = seconds(await s.page().locator('[data-dns=Mean] b').textContent())
    assert.ok(mean >= 0.02 && mean < 0.5, `answers take ${mean} s, the server 0.02 s at least`)
    await seen('dns')
    await s.docker('rm', '-f', 'names')
    names.close()
  })
}

/** What is kept of runs that ended. */
export function endTests(s: Stage): void {
  test('a container that failed leads to why, with its last words', async () => {
    const id = await s.docker('run', '-d', '--name', 'fails', '--restart', 'on-failure:1', 'programs', 'sh', '-c', 'echo my last words >&2; exit 7')
    const page = s.page()
    await until('both of its runs are over', 30_000, async () => (await s.docker('inspect', '-f', '{{.State.Status}} {{.RestartCount}}', 'fails')) === 'exited 1')
    await page.goto(`${s.base}/c/${id.slice(0, 12)}`)
    await page.click('a.badge.alarm:has-text("exited 7")')
    const rows = page.locator('[data-end]')
    await until('both ends are listed', 10_000, async () => (await rows.count()) === 2)
    assert.match(await rows.first().innerText(), /\s7\s+exited with 7/)
    await page.waitForSelector('.readings .lines:has-text("my last words")')
    await s.accessible(page, 'ends')
    await s.shot(page, 'ends')
    await rows.nth(1).locator('button').click()
    await until('the other one is chosen', 5000, async () => (await rows.nth(1).getAttribute('aria-current')) === 'true')
    await s.docker('rm', '-f', 'fails')
  })
}

/** On a daemon that was started without the flags. */
export function unreadTests(s: Stage): void {
  test('what the daemon was not told to watch is said with the flag that does', async () => {
    await s.hands('plain')
    const page = s.page()
    await page.goto(`${s.base}/c/${s.pace().slice(0, 12)}/dns`)
    await page.waitForSelector('.panel code:text-is("--metrics-dns")', { timeout: 15_000 })
    await page.waitForSelector('.heat.empty code:text-is("--metrics-network")')
    await page.click('#tab-network')
    await page.waitForSelector('.panel code:text-is("--metrics-network")')
    await s.accessible(page, 'network is not watched')
    await s.shot(page, 'unread')
  })
}
