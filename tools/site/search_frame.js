// Browsers refuse workers for pages that are opened from a folder (file:). The search of the theme runs in one, so there it
// gets a frame instead: the script of the worker runs in it, and messages are handed to and fro.
(() => {
  if (location.protocol !== "file:") return;

  class FrameWorker extends EventTarget {
    constructor(address) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      this.inside = frame.contentWindow;
      this.inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.inside.importScripts = (...addresses) => Promise.all(addresses.map((each) => this.load(each)));
      this.load(new URL(address, document.baseURI).href).then(() => {
        this.isReady = true;
        this.waiting.splice(0).forEach((data) => this.hand(data));
      });
    }

    load(address) {
      const inside = this.inside.document;
      return new Promise((resolve, reject) => {
        const script = inside.createElement("script");
        script.src = address;
        script.onload = resolve;
        script.onerror = reject;
        inside.body.appendChild(script);
      });
    }

    hand(data) {
      this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }));
    }

    postMessage(data) {
      if (this.isReady) this.hand(data);
      else this.waiting.push(data);
    }

    terminate() {
      this.inside.frameElement.remove();
    }
  }

  window.Worker = FrameWorker;
})();
