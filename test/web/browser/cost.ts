// The page of what the daemon and its programs cost, against procfs and a program that says what it does.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { until } from './chrome'
import type { Stage } from './questions'

export function costTests(s: Stage, pid: string): void {
  test('what observation costs is told by program, by container and for the daemon', async () => {
    const page = s.page()
    await page.goto(s.base + '/c')
    await page.waitForSelector('.row[data-id]')
    await page.keyboard.press('g')
    await page.keyboard.press('o')
    await page.waitForSelector('[data-program=sys_exit]', { timeout: 20_000 })
    const text = async (at: string) => (await page.locator(at).textContent()) ?? ''
    const number = async (at: string) => Number(/[\d.]+/.exec(await text(at))?.[0])
    await until('the programs cost something', 20_000, async () => (await number('[data-program=all] td:nth-of-type(2)')) > 0)
    // It sleeps and then makes ten calls: eleven runs of the pair and one of the scheduler's for each round, some 48 rounds a second.
    const lines = async () => (await s.docker('logs', '-t', '--tail', '40', 'pace')).split('\n').map((l) => ({ t: Date.parse(l.split(' ')[0]!), n: Number(l.split(' ')[1]) }))
    await until('its events are those of its rounds', 20_000, async () => {
      const all = await lines(), a = all[0]!, b = all.at(-1)!
      const rounds = (b.n - a.n) / (b.t - a.t) * 1000, events = await number('[data-container=pace] [data-col=events]')
      return events > 11 * rounds && events < 14 * rounds
    })
    assert.match(await text('[data-container=pace] [data-col=cpu]'), /^~/)
    const resident = Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
    const shown = await number('[data-tile="Daemon, resident"] b')
    assert.ok(Math.abs(shown / resident - 1) < 0.25, `${shown} MiB are shown, the kernel says ${resident.toFixed(0)} MiB`)
    await until('the daemon’s processor time is known', 10_000, async () => (await number('[data-tile="Daemon, cores"] b')) >= 0)
    assert.ok((await page.locator('[data-lost]').count()) > 10)
    await s.accessible(page, 'cost')
    await s.shot(page, 'cost')
    await page.click('[data-container=pace] a')
    await page.waitForSelector('article.container')
    assert.ok(page.url().includes('/c/' + s.pace().slice(0, 12)), page.url())
  })
}
