// Debian's chromium: nothing is downloaded.
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core'

export const launch = (): Promise<Browser> =>
  chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--enable-precise-memory-info'] })

export interface Tab { context: BrowserContext; page: Page; problems: string[] }

/** A page whose errors and foreign requests are noted. */
export async function tab(browser: Browser, base: string, opt: { theme?: 'dark' | 'light'; width?: number; height?: number } = {}): Promise<Tab> {
  const context = await browser.newContext({ viewport: { width: opt.width ?? 1440, height: opt.height ?? 900 }, colorScheme: opt.theme ?? 'dark' })
  const page = await context.newPage()
  const problems: string[] = []
  page.on('pageerror', (e) => problems.push(String(e)))
  page.on('request', (r) => {
    if (!r.url().startsWith(base) && !r.url().startsWith('data:') && !r.url().startsWith(base.replace('http', 'ws'))) problems.push('request to ' + r.url())
  })
  return { context, page, problems }
}

export async function until<T>(what: string, ms: number, probe: () => Promise<T | undefined | false | null>): Promise<T> {
  const end = Date.now() + ms
  for (;;) {
    const v = await probe()
    if (v) return v
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`)
    await new Promise((r) => setTimeout(r, 50))
  }
}
