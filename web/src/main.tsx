import { effect } from '@preact/signals'
import { render } from 'preact'
import { startClock } from './frame'
import { takeLogin } from './login'
import { startRoute } from './route'
import { Shell } from './shell'
import { startSocket } from './socket'
import { applyTheme, theme } from './theme'
import '@xterm/xterm/css/xterm.css' // one kilobyte: a style of its own for the lazy part would need a loader
import './style.css'

effect(() => {
  theme.value
  applyTheme()
})
startRoute()
startClock()
const root = document.getElementById('page')
if (root) render(<Shell />, root)
void takeLogin().then(startSocket)
