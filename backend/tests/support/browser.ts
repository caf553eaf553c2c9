import { chromium } from 'playwright-core'

/** Debian's Chromium, without a window. */
export async function startBrowser() {
  return chromium.launch({
    executablePath: '/usr/bin/chromium',
    // Without a sandbox it runs as root, too; the rest keeps it from calling home.
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--no-first-run',
    ],
  })
}
