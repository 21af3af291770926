// Pages opened from the disk may not start workers: this one runs the search's in a hidden frame.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      this.inner = frame.contentWindow
      this.ready = new Promise(resolve => {
        this.inner.postMessage = data => this.answer(data)
        const script = this.inner.document.createElement("script")
        script.src = url
        script.onload = resolve
        this.inner.document.body.appendChild(script)
      })
    }
    answer(data) {
      const event = new MessageEvent("message", { data })
      this.dispatchEvent(event)
      if (this.onmessage) this.onmessage(event)
    }
    postMessage(data) {
      this.ready.then(() => this.inner.dispatchEvent(new this.inner.MessageEvent("message", { data })))
    }
    terminate() {}
  }
