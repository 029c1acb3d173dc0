import type { Plugin } from "vite";

interface Change {
  file: string;
  from: RegExp;
  to: string;
}

/**
 * xterm.js asks of dim text (SGR 2) only half the contrast of `minimumContrastRatio`, and halves its opacity after that.
 * Here dim text keeps the whole contrast: its colour is adjusted after it was dimmed. The WebGL renderer dims a colour
 * last: there twice the contrast is asked of a colour that loses less than a quarter of its opacity.
 */
const CHANGES: Change[] = [
  {
    file: "/@xterm/xterm/lib/xterm.mjs",
    from: /(\w+)=this\._optionsService\.rawOptions\.minimumContrastRatio\/\((\w+)\.isDim\(\)\?2:1\);(\w+)=(\w+)\.ensureContrastRatio\((\w+\|\|\w+),(\w+\|\|\w+),\1\)/,
    to: "$1=this._optionsService.rawOptions.minimumContrastRatio;let dimmed=$2.isDim()?$4.blend($5,$4.multiplyOpacity($6,.5)):void 0;$3=$4.ensureContrastRatio($5,dimmed||$6,$1)||dimmed",
  },
  {
    file: "/@xterm/addon-webgl/lib/addon-webgl.mjs",
    from: /this\._config\.minimumContrastRatio\/\((\w+)\?2:1\)/,
    to: "this._config.minimumContrastRatio*($1?2:1)",
  },
  {
    file: "/@xterm/addon-webgl/lib/addon-webgl.mjs",
    from: /(\w)=(\w+)\.multiplyOpacity\(\1,\w+\)/,
    to: "$1=$2.multiplyOpacity($1,.78)",
  },
];

export function dimContrast(): Plugin {
  return {
    name: "dim-contrast",
    transform(code, id) {
      const changes = CHANGES.filter(({ file }) => id.endsWith(file));
      if (changes.length === 0) return null;
      return changes.reduce((changed, { file, from, to }) => {
        if (!from.test(changed)) this.error(`${file} has changed: adapt build/dim-contrast.ts to it`);
        return changed.replace(from, to);
      }, code);
    },
  };
}
