// Questions and live traces on the page; see page.test.ts, which starts what they are about.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Page } from 'playwright-core'
import { until } from './chrome'

export interface Stage {
  base: string
  page(): Page
  pace(): string // id of a container that sleeps 20 ms and makes ten calls of getpriority, again and again
  busy(): string // id of one that would take more than the half core that it has
  docker(...args: string[]): Promise<string>
  hands(what: string): Promise<void> // what only the test outside of the browser can do: kill, start, plain
  shot(p: Page, name: string): Promise<void>
  accessible(p: Page, what: string): Promise<void>
}

export function questionTests(s: Stage): void {
  const answers = async () => Number(await s.page().locator('.ask').getAttribute('data-answers'))

  test('a question is answered within two seconds, is its URL, and a row is seen alone', async () => {
    const page = s.page()
    await page.goto(s.base + '/c')
    await page.waitForSelector('.row[data-id]')
    await page.keyboard.press('g')
    await page.keyboard.press('a')
    await page.waitForSelector('h1:has-text("Ask what your containers do")')
    await s.shot(page, 'ask-examples')
    const took: number[] = [] // of some: what else the machine does may delay one
    while (took.length < 4 && !(took.at(-1)! < 2000)) {
      if (took.length) await page.goto(s.base + '/ask')
      await page.fill('#where', 'container=pace && (syscall=clock_nanosleep || syscall=getpriority)')
      const asked = Date.now()
      await page.press('#where', 'Enter')
      await until('an answer', 10_000, async () => (await answers()) > 0)
      took.push(Date.now() - asked)
    }
    assert.ok(took.at(-1)! < 2000, `the first answers took ${took.join(', ')} ms`)
    await until('six answers', 15_000, async () => (await answers()) > 5)
    const cell = (call: string, col: string) => page.locator(`tr[data-row="pace ${call}"] td[data-col=${col}]`).textContent()
    const sleeps = Number(await cell('clock_nanosleep', 'rate')), calls = Number(await cell('getpriority', 'rate'))
    assert.ok(sleeps > 10 && sleeps < 51 && Math.abs(calls / sleeps - 10) < 0.5, `${calls} calls of getpriority for ${sleeps} sleeps`)
    assert.match((await cell('clock_nanosleep', 'p50')) ?? '', /^2[26]\.\d ms$/) // (18.6 ms, 22.1 ms], or the next
    assert.match((await page.textContent('.ask .summary')) ?? '', /1 container/)

    const legend = () => page.locator('.heats.one [data-q=p50]').textContent()
    await page.evaluate(() => document.querySelector<HTMLElement>('#main')?.focus())
    await page.keyboard.press('j')
    await page.keyboard.press('j')
    await until('the second row is alone in the map', 5000, async () => /^2[26]\.\d ms$/.test((await legend()) ?? ''))
    await s.shot(page, 'ask')
    const url = page.url()
    await page.reload()
    await until('the same is asked again', 5000, async () => (await answers()) > 1)
    assert.equal(page.url(), url)
    assert.equal(await page.inputValue('#where'), 'container=pace && (syscall=clock_nanosleep || syscall=getpriority)')
    assert.equal(await page.locator('tr[aria-current=true]').getAttribute('data-row'), 'pace clock_nanosleep')
    await page.keyboard.press('Escape')
    await until('all rows are in the map', 5000, async () => (await page.locator('tr[aria-current]').count()) === 0)
  })

  test('a mistake in a question is marked where it is, and the question is asked once it is mended', async () => {
    const page = s.page()
    await page.fill('#where', 'container=pace && errno=ENOENTT')
    await page.press('#where', 'Enter')
    await page.waitForSelector('[role=alert] mark')
    assert.equal(await page.textContent('[role=alert] mark'), 'ENOENTT')
    await s.shot(page, 'ask-mistake')
    await page.fill('#where', 'container=pace && errno!=0')
    await page.press('#where', 'Enter')
    await until('an answer', 5000, async () => (await answers()) > 0)
    assert.equal(await page.locator('[role=alert] mark').count(), 0)
  })

  test('nothing of a question is left in the kernel when the page goes elsewhere', async () => {
    const cost = async () => /program="ask_exit"/.test(await (await fetch(s.base + '/metrics')).text())
    await until('its programs have a price', 15_000, cost)
    await s.page().goto(s.base + '/c')
    await until('its programs are gone', 15_000, async () => !(await cost()))
  })

  test('a trace shows what passes its filter, tells what it lost, and ends with the tab', async () => {
    const page = s.page()
    const flood = await s.docker('run', '-d', '--name', 'flood', '--cpus', '0.5', 'programs', 'sh', '-c', 'while :; do dd if=/dev/zero of=/dev/null bs=1 count=100000 2>/dev/null; done')
    await page.goto(`${s.base}/c/${s.pace().slice(0, 12)}/trace`)
    await page.fill('.trace input[name=sys]', 'clock_*')
    await page.fill('.trace input[name=slower]', '10ms')
    await page.press('.trace input[name=slower]', 'Enter')
    const lines = page.locator('.trace .lines > div')
    await until('twenty lines', 15_000, async () => (await lines.count()) > 20)
    assert.match(page.url(), /trace=on/)
    const text = (await lines.allTextContents()).filter((l) => !/pace\[\d+\]clock_nanosleep\(.*\) = 0\d+(\.\d)? ms$/.test(l))
    assert.deepEqual(text, [])
    await page.click('.trace button:has-text("Hold still")')
    const still = await lines.last().textContent()
    await new Promise((r) => setTimeout(r, 300)) // in which some ten calls come
    assert.equal(await lines.last().textContent(), still)
    await s.shot(page, 'trace')
    await page.fill('.trace input[name=slower]', 'soon')
    await page.press('.trace input[name=slower]', 'Enter')
    await page.waitForSelector('.trace [role=alert]:has-text("slower=soon")')

    await page.goto(`${s.base}/c/${flood.slice(0, 12)}/trace?trace=on`)
    await until('losses are told', 15_000, async () => (await page.locator('.trace [data-lost]').count()) === 1)
    assert.ok((await lines.count()) <= 500)
    await page.click('.trace button:has-text("Stop")')
    await page.waitForSelector('.trace[data-phase=off]')
    await s.docker('rm', '-f', flood)
  })
}
