// Builds the page: `node build.mjs` into dist/; with `test`, `browser` or `bench`, what tests it into .cache. esbuild alone does it:
// it runs on Debian 12's Node 18, needs no plugin for Preact's JSX, and the same input gives the same bytes.
import { build } from 'esbuild'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'

const here = new URL('.', import.meta.url).pathname
const common = {
  absWorkingDir: here, bundle: true, jsx: 'automatic', jsxImportSource: 'preact', target: 'es2022', charset: 'utf8', legalComments: 'none',
}

const tools = { test: 'test/unit.test.ts', browser: '../test/web/browser/page.test.ts', bench: '../test/web/browser/bench.ts' }
const tool = process.argv[2]
if (tool) {
  await build({
    ...common, entryPoints: [tools[tool]], outdir: '.cache/' + tool, outExtension: { '.js': '.mjs' }, platform: 'node', format: 'esm',
    external: ['playwright-core', 'axe-core'], nodePaths: ['node_modules'],
  })
} else {
  rmSync(here + 'dist', { recursive: true, force: true })
  mkdirSync(here + 'dist/assets', { recursive: true })
  const result = await build({
    ...common, entryPoints: { page: 'src/main.tsx' }, outdir: 'dist/assets', entryNames: '[name]-[hash]', chunkNames: '[name]-[hash]',
    assetNames: '[name]-[hash]', format: 'esm', splitting: true, minify: true, metafile: true,
  })
  const page = Object.entries(result.metafile.outputs).find(([, o]) => o.entryPoint === 'src/main.tsx')
  if (!page) throw new Error('no output of src/main.tsx')
  const [script, output] = page
  const html = readFileSync(here + 'src/index.html', 'utf8')
    .replace('PAGE_CSS', output.cssBundle.replace('dist/', '/'))
    .replace('PAGE_JS', script.replace('dist/', '/'))
    .replace('PAGE_CHUNKS', output.imports.filter((i) => i.kind === 'import-statement')
      .map((i) => `<link rel="modulepreload" href="${i.path.replace('dist/', '/')}">`).join('\n'))
  writeFileSync(here + 'dist/index.html', html)
}
