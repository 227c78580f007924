// A notebook stores with each picture a sentence that stands in for it, in the metadata of the
// output: {"image/png": {"alt": "..."}}. JupyterLab does not pass it on; this extension does.
//
// JupyterLab expects a container as webpack's module federation builds it. One this small needs
// no build: `init` receives the modules that all extensions share, `get` returns a plugin.

(() => {
  let shared;

  async function describePictures() {
    const [rendermime] = Object.values(shared["@jupyterlab/rendermime"]);
    const { IRenderMimeRegistry, RenderedImage } = (await rendermime.get())();

    class DescribedImage extends RenderedImage {
      async render(model) {
        await super.render(model);
        const image = this.node.querySelector("img");
        if (image) image.alt = model.metadata[this.mimeType]?.alt ?? "";
      }
    }

    return {
      id: "picture-text:plugin",
      autoStart: true,
      requires: [IRenderMimeRegistry],
      activate: (app, registry) =>
        registry.addFactory({
          safe: true,
          mimeTypes: ["image/png", "image/gif"],
          createRenderer: options => new DescribedImage(options),
        }, 80), // before JupyterLab's own, which stands at 90
    };
  }

  (window._JUPYTERLAB ??= {})["picture-text"] = {
    init: scope => { shared = scope; },
    get: async () => {
      const plugin = await describePictures();
      return () => ({ __esModule: true, default: plugin });
    },
  };
})();
