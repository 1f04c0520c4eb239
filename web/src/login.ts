// A login link has its token in the fragment, which is never sent with a request: it is posted, and taken out of the URL.
import { signal } from '@preact/signals'

export const loginError = signal('')

export async function takeLogin(): Promise<void> {
  const token = new URLSearchParams(location.hash.slice(1)).get('login')
  if (token === null) return
  history.replaceState(null, '', location.pathname + location.search)
  await login(token)
}

/** Exchanges a token for the cookie of a session. */
export async function login(token: string): Promise<boolean> {
  try {
    const r = await fetch('/triton/v1/login', {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ token }), credentials: 'same-origin',
    })
    loginError.value = r.ok ? '' : ((await r.text()).slice(0, 200) || `the server answered ${r.status}`)
    return r.ok
  } catch {
    loginError.value = 'the daemon does not answer'
    return false
  }
}
