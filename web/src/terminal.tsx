// A shell in a container: xterm.js on a websocket of its own.
import { useSignal } from '@preact/signals'
import { FitAddon } from '@xterm/addon-fit'
import { Terminal as Xterm } from '@xterm/xterm'
import { useEffect, useRef } from 'preact/hooks'
import { theme } from './theme'

type Control = { op: 'exit'; code?: number } | { op: 'err'; message: string }

const COLOURS = {
  dark: { background: '#0b0f14', foreground: '#d5dde6', cursor: '#5cc8ff', selectionBackground: '#2b4a66' },
  light: { background: '#ffffff', foreground: '#1b2530', cursor: '#0b63a5', selectionBackground: '#bcd9f2', black: '#1b2530', white: '#4a5663', brightWhite: '#1b2530', yellow: '#7a5a00', green: '#1a6b2f', cyan: '#0b6a75', brightBlack: '#5b6773' },
}

export function Terminal({ id, running }: { id: string; running: boolean }) {
  const box = useRef<HTMLDivElement>(null)
  const command = useSignal('sh')
  const round = useSignal(0)
  const state = useSignal<{ open: boolean; text: string; bad: boolean }>({ open: false, text: '', bad: false })

  useEffect(() => {
    const el = box.current
    if (!round.value || !el) return
    return session(el, id, command.peek(), (open, text, bad) => (state.value = { open, text, bad }))
  }, [round.value])

  const start = (e: SubmitEvent) => {
    e.preventDefault()
    round.value++
  }
  return (
    <div class="terminal">
      <form onSubmit={start}>
        <label for="command">Run</label>
        <input id="command" value={command.value} spellcheck={false} autocomplete="off" disabled={state.value.open} onInput={(e) => (command.value = e.currentTarget.value)} />
        <button type="submit" class="strong" disabled={state.value.open || !running || !command.value.trim()}>{round.value ? 'Run again' : 'Open terminal'}</button>
        <span class={state.value.bad ? 'error' : 'quiet'} role="status">{running ? state.value.text : 'The container does not run.'}</span>
      </form>
      <div class="screen" ref={box} hidden={!round.value} />
    </div>
  )
}

/** Runs one program; the function it returns ends the terminal and frees all of it. */
function session(el: HTMLElement, id: string, command: string, tell: (open: boolean, text: string, bad: boolean) => void): () => void {
  const term = new Xterm({ fontFamily: 'ui-monospace, "DejaVu Sans Mono", monospace', fontSize: 13, scrollback: 5000, theme: COLOURS[theme.value], screenReaderMode: true })
  const fit = new FitAddon()
  term.loadAddon(fit)
  term.open(el)
  fit.fit()
  term.focus()
  const ws = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/triton/v1/terminal/${id}`, 'triton.terminal.v1')
  ws.binaryType = 'arraybuffer'
  const bytes = new TextEncoder()
  let ended = false
  tell(true, 'connecting', false)
  ws.onopen = () => {
    ws.send(JSON.stringify({ argv: command.trim().split(/\s+/), rows: term.rows, cols: term.cols }))
    tell(true, 'Shift+Tab leaves the terminal', false)
  }
  ws.onmessage = (e: MessageEvent<ArrayBuffer | string>) => {
    if (typeof e.data !== 'string') return term.write(new Uint8Array(e.data))
    const c = JSON.parse(e.data) as Control
    ended = true
    if (c.op === 'exit') tell(false, `ended with exit code ${c.code ?? 'unknown'}`, Boolean(c.code))
    else tell(false, c.message, true)
  }
  ws.onclose = () => {
    if (!ended) tell(false, 'the connection ended; the program was asked to leave', true)
  }
  const typed = term.onData((s) => ws.readyState === WebSocket.OPEN && ws.send(bytes.encode(s)))
  term.attachCustomKeyEventHandler((e) => !(e.key === 'Tab' && e.shiftKey)) // a way out for the keyboard
  const sized = term.onResize(({ rows, cols }) => ws.readyState === WebSocket.OPEN && ws.send(JSON.stringify({ op: 'resize', rows, cols })))
  const watch = new ResizeObserver(() => fit.fit())
  watch.observe(el)
  const unthemed = theme.subscribe((t) => (term.options.theme = COLOURS[t]))
  return () => {
    unthemed()
    watch.disconnect()
    typed.dispose()
    sized.dispose()
    ws.onclose = ws.onmessage = ws.onopen = null
    ws.close()
    term.dispose()
    el.replaceChildren()
  }
}
