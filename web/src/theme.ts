import { signal } from '@preact/signals'

type Theme = 'dark' | 'light'
const stored = localStorage.getItem('theme')
const system: Theme = matchMedia('(prefers-color-scheme: light)').matches ? 'light' : 'dark'
export const theme = signal<Theme>(stored === 'dark' || stored === 'light' ? stored : system)

export function applyTheme(): void {
  document.documentElement.dataset.theme = theme.value
}

export function toggleTheme(): void {
  theme.value = theme.value === 'dark' ? 'light' : 'dark'
  localStorage.setItem('theme', theme.value)
  applyTheme()
}
