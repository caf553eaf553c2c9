import { expect, test } from 'bun:test'
import { join } from 'node:path'
import { createMetrics } from '../../http/prometheus.ts'
import { repository } from '../support/server.ts'

const parts = /_(bucket|sum|count)$/

test.each(['docs/alerts.yml', 'docs/grafana.json'])(
  '%s asks for no other program’s metrics',
  async (file) => {
    const text = await Bun.file(join(repository, file)).text()
    const selected = [...text.matchAll(/\b(?:http_server|todo|process)_\w+(\{[^}]*\}|, job)?/g)]
    expect(selected.length).toBeGreaterThan(4)
    for (const [metric, labels = ''] of selected)
      expect([metric, labels]).toEqual([metric, expect.stringMatching(/\bjob\b/)])
  },
)

test.each(['docs/alerts.yml', 'docs/grafana.json'])(
  '%s asks for metrics and labels that there are',
  async (file) => {
    const text = await Bun.file(join(repository, file)).text()
    const metrics = createMetrics()
    metrics.observeRequest('GET', '/api/tasks', 200, 0.001)
    metrics.countPurged('keys', 1)
    metrics.watchStreams(() => 0)
    const served = await metrics.text()
    const names = new Set(text.match(/\b(?:http_server|todo|process)_\w+/g))
    expect(names.size).toBeGreaterThan(4)
    for (const name of names) expect(served).toContain(`# TYPE ${name.replace(parts, '')} `)
    for (const label of new Set(text.match(/\bhttp_(?:request|response|route)\w*/g)))
      expect(served).toContain(`${label}="`)
  },
)
