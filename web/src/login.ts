// A login link has a code (or a token) in the fragment, which is never sent with a request: it is posted, and taken out of the URL.
import { signal } from '@preact/signals'
import { open } from './route'

export const loginError = signal('')

export async function takeLogin(): Promise<void> {
  const fragment = new URLSearchParams(location.hash.slice(1))
  const code = fragment.get('code'), token = fragment.get('login')
  if (code === null && token === null) return
  open(location.pathname === '/login' ? '/c' : location.pathname, true)
  await login(code === null ? { token: token ?? '' } : { code })
}

/** Exchanges a code or a token for the cookie of a session. */
export async function login(by: { code: string } | { token: string }): Promise<boolean> {
  try {
    const r = await fetch('/triton/v1/login', {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(by), credentials: 'same-origin',
    })
    loginError.value = r.ok ? '' : reason(await r.text(), r.status)
    return r.ok
  } catch {
    loginError.value = 'the daemon does not answer'
    return false
  }
}

/** Errors are JSON with a message. */
function reason(body: string, status: number): string {
  try {
    const v: unknown = JSON.parse(body)
    if (v && typeof v === 'object' && 'message' in v && typeof v.message === 'string') return v.message
  } catch {
    // a plain text, or nothing
  }
  return body.slice(0, 200) || `the server answered ${status}`
}
