// Draws the charts of a report when they come into view; without it the pictures stay.
// Texts and numbers come from a run folder: texts go into the page as text nodes, and into Plotly
// with their markup switched off.
"use strict";
(() => {
  const DASHES = { solid: "solid", dashed: "dash", dotted: "dot", "dash-dot": "dashdot" };
  const STROKES = { solid: "", dashed: "6 4", dotted: "1.5 3", "dash-dot": "6 3 1.5 3" };
  const SYMBOLS = { cross: "cross-thin-open", x: "x-thin-open" };
  const POINT = 4 / 3; // pixels
  const night = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)");
  const drawn = new Set();

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  // Plotly reads a little HTML in its texts; as entities it shows them as they are.
  const plain = (text) =>
    text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/%{/g, "% {");
  const wrapped = (text, from = 30) =>
    plain(text.replace(new RegExp(`(.{${from},}?)\\s+(?=\\S{3})`, "g"), "$1\n")).replace(/\n/g, "<br>");
  const shown = (value) => String(Number(value.toPrecision(5)));
  const finite = (values) => values.filter((value) => value !== null);

  // Colours were chosen for white paper: greys are turned round, dark ones made lighter.
  const tint = (colour, opacity = 1) => {
    let rgb = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
    const spread = Math.max(...rgb) - Math.min(...rgb);
    if (night.matches && spread < 12) rgb = rgb.map((value) => 235 - 0.85 * value);
    else if (night.matches) {
      const light = (0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2]) / 255;
      const more = Math.max(0, 0.48 - light) / (1 - light);
      rgb = rgb.map((value) => value + more * (255 - value));
    }
    return `rgba(${rgb.map(Math.round).join(",")},${opacity})`;
  };
  const grey = (colour) => new Set(colour.slice(1).match(/../g)).size === 1;
  const look = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Positions on an axis as Plotly wants them; it has no symlog.
  const placer = (axis, scale) => {
    if (scale !== "symlog") return (value) => value;
    const t = axis.threshold;
    return (value) =>
      value === null || Math.abs(value) <= t
        ? value === null ? null : value / 0.9
        : Math.sign(value) * t * (1 / 0.9 + Math.log10(Math.abs(value) / t));
  };

  // What has no name of its own is shown and hidden with the curve of its colour and style.
  // A panel without any name takes them from the others of its figure.
  const groups = (panel, panels) => {
    const all = [...panel.series, ...panel.references];
    const namedIn = (some) => [...some.series, ...some.references].filter((one) => one.name);
    const own = namedIn(panel);
    const named = own.length || panel.bands.some((one) => one.name) ? own : panels.flatMap(namedIn);
    const owner = new Map();
    for (const one of all) {
      if (one.name) owner.set(one, one);
      else if (!(panel.references.includes(one) && grey(one.colour))) {
        const alike = named.filter((other) => other.colour === one.colour);
        owner.set(one, alike.find((other) => other.style === one.style) || alike[0]);
      }
    }
    for (const band of panel.bands) {
      const curve = band.series === null ? null : owner.get(panel.series[band.series]);
      const alike = named.find((other) => other.colour === band.colour);
      owner.set(band, band.name ? band : curve || alike);
    }
    return owner;
  };

  const parts = (label) => {
    const found = label.match(/^(.*?)\s*(\[[^\]]*\])?$/s);
    return { name: found[1] || label, unit: found[2] && found[2] !== "[1]" ? ` ${found[2]}` : "" };
  };

  const hover = (panel, one, name) => {
    const [x, y] = [parts(panel.x.label || "x"), parts(panel.y.label || "y")];
    const ticks = new Map(panel.x.ticks);
    const range = (low, high) =>
      low == null || high == null ? "" : `<br>from ${shown(low)} to ${shown(high)}`;
    const band = panel.bands.find((b) => b.series !== null && panel.series[b.series] === one);
    const index = new Map(band ? band.x.map((value, i) => [value, i]) : []);
    return one.x.map((at, i) => {
      if (at === null || one.y[i] === null) return "";
      const j = index.get(at);
      return (
        (name ? `<b>${wrapped(name.trim())}</b><br>` : "") +
        `${wrapped(x.name)} = ${plain(ticks.get(at) || shown(at))}${plain(x.unit)}` +
        (one.x_error ? range(one.x_error[0][i], one.x_error[1][i]) : "") +
        `<br>${wrapped(y.name)} = ${shown(one.y[i])}${plain(y.unit)}` +
        (one.y_error ? range(one.y_error[0][i], one.y_error[1][i]) : "") +
        (j === undefined ? "" : range(band.low[j], band.high[j]))
      );
    });
  };

  const bars = (values, error, place, colour) => {
    if (!error) return undefined;
    const reach = (edge, sign) =>
      values.map((value, i) =>
        value === null || edge[i] === null ? 0 : Math.max(0, sign * (place(edge[i]) - place(value))));
    return {
      type: "data", symmetric: false, array: reach(error[1], 1), arrayminus: reach(error[0], -1),
      color: colour, thickness: 1, width: 0,
    };
  };

  const polygon = (band, place, least) => {
    const x = [], y = [];
    let piece = [];
    const close = () => {
      const back = [...piece].reverse();
      x.push(...piece.map((i) => place.x(band.x[i])), ...back.map((i) => place.x(band.x[i])), null);
      y.push(...piece.map((i) => place.y(Math.max(band.low[i], least))));
      y.push(...back.map((i) => place.y(Math.max(band.high[i], least))), null);
      piece = [];
    };
    band.x.forEach((value, i) => {
      if (value !== null && band.low[i] !== null && band.high[i] !== null) piece.push(i);
      else if (piece.length) close();
    });
    if (piece.length) close();
    return { x, y };
  };

  const traces = (panel, state, place) => {
    const visible = (one) => !state.hidden.has(state.owner.get(one));
    const positive = finite(panel.series.flatMap((one) => one.y)).filter((value) => value > 0);
    const least = state.y !== "log" ? -Infinity : Math.min(...positive, Infinity) / 10;
    const bands = panel.bands.map((band) => ({
      ...polygon(band, place, least), type: "scatter", mode: "lines", fill: "toself",
      line: { width: 0 }, fillcolor: tint(band.colour, night.matches ? band.opacity * 1.3 : band.opacity),
      hoverinfo: "skip", visible: visible(band), showlegend: false,
    }));
    const series = panel.series.map((one) => {
      const colour = tint(one.colour);
      const owner = state.owner.get(one);
      const modes = [one.style !== "none" && "lines", one.marker !== "none" && "markers"];
      const symbol = SYMBOLS[one.marker] || one.marker + (one.hollow ? "-open" : "");
      return {
        type: "scatter", x: one.x.map(place.x), y: one.y.map(place.y),
        mode: modes.filter(Boolean).join("+") || "none", opacity: one.opacity,
        line: { color: colour, width: Math.max(1, one.width * POINT), dash: DASHES[one.style], shape: one.step ? "hv" : "linear" },
        marker: { color: colour, size: Math.max(4, one.size * POINT), symbol, line: { width: SYMBOLS[one.marker] ? 1.5 : one.hollow ? 1.2 : 0, color: colour } },
        error_x: bars(one.x, one.x_error, place.x, colour),
        error_y: bars(one.y, one.y_error, place.y, colour),
        name: plain((owner || one).name.trim()), visible: visible(one), showlegend: false,
        hoverinfo: "text", hovertext: hover(panel, one, owner ? owner.name : ""), cliponaxis: true,
      };
    });
    return [...(panel.heat ? [heatMap(panel, place)] : []), ...bands, ...series];
  };

  const heatMap = (panel, place) => {
    const { x, y, values, view, colours, label } = panel.heat;
    const [across, upright, value] = [parts(panel.x.label || "x"), parts(panel.y.label || "y"), parts(label)];
    const middle = (edges, i) => (edges[i] + edges[i + 1]) / 2;
    const rows = y.slice(1).map((_, i) => i);
    const columns = x.slice(1).map((_, j) => j);
    return {
      type: "heatmap", x: x.map(place.x), y: y.map(place.y), zmin: view[0], zmax: view[1],
      z: rows.map((i) => values.slice(i * columns.length, (i + 1) * columns.length)),
      colorscale: colours.map((colour, i) => [i / (colours.length - 1), colour]),
      colorbar: { title: { text: wrapped(label), side: "right" }, thickness: 12, outlinewidth: 0, len: 1 },
      hoverinfo: "text", hoverongaps: false,
      text: rows.map((i) => columns.map((j) =>
        `${wrapped(across.name)} = ${shown(middle(x, j))}${plain(across.unit)}<br>` +
        `${wrapped(upright.name)} = ${shown(middle(y, i))}${plain(upright.unit)}<br>` +
        `${wrapped(value.name)} = ${shown(values[i * columns.length + j] ?? NaN)}${plain(value.unit)}`)),
    };
  };

  const axisLayout = (axis, scale, place, room) => {
    const inverted = axis.view[0] > axis.view[1];
    const own = scale === axis.scale;
    // Over less than two decades more ticks would run into each other.
    const short = own && Math.abs(Math.log10(axis.view[1] / axis.view[0])) < 2;
    const to = (value) => (scale === "log" ? Math.log10(value) : place(value));
    const ticks = own && axis.ticks.length
      ? { tickmode: "array", tickvals: axis.ticks.map(([value]) => place(value)), ticktext: axis.ticks.map(([, text]) => plain(text)) }
      : {};
    return {
      type: scale === "log" ? "log" : "linear", title: { text: wrapped(axis.label, room), standoff: 6 },
      ...(own ? { range: axis.view.map(to) } : { autorange: inverted ? "reversed" : true }),
      ...ticks, automargin: true, exponentformat: "power", zeroline: false, showline: true,
      ticks: "outside", ticklen: 4, gridcolor: look("--line"), linecolor: look("--faint"),
      tickcolor: look("--faint"), tickfont: { size: scale === "log" ? 11 : 12 }, nticks: scale !== "log" ? 7 : short ? 3 : 6, minor: { ticks: "" },
    };
  };

  const layout = (panel, state, place) => {
    const visible = (one) => !state.hidden.has(state.owner.get(one));
    const shapes = panel.references.map((one) => {
      const across = one.along === "x" ? "y" : "x";
      const at = [place[one.along](one.low), place[one.along](one.high)];
      const line = one.style === "none"
        ? { width: 0 }
        : { color: tint(one.colour, one.opacity), width: Math.max(1, one.width * POINT), dash: DASHES[one.style] };
      const stripe = one.low !== one.high;
      const shade = night.matches && grey(one.colour) ? one.opacity * 1.6 : one.opacity;
      return {
        type: stripe ? "rect" : "line", layer: "below", line, visible: visible(one),
        ...(stripe ? { fillcolor: tint(one.colour, Math.min(1, shade)) } : {}),
        [`${one.along}ref`]: one.along, [`${one.along}0`]: at[0], [`${one.along}1`]: at[1],
        [`${across}ref`]: `${across} domain`, [`${across}0`]: 0, [`${across}1`]: 1,
      };
    });
    const annotations = panel.notes.map((note) => {
      const at = (which, value, frame) =>
        frame === "axes" ? value : state[which] === "log" ? Math.log10(value) : place[which](value);
      return {
        text: plain(note.text), showarrow: false, x: at("x", note.x, note.frame[0]),
        y: at("y", note.y, note.frame[1]), xref: note.frame[0] === "axes" ? "x domain" : "x",
        yref: note.frame[1] === "axes" ? "y domain" : "y", xanchor: note.across, yanchor: note.upright,
        xshift: note.shift[0] * POINT, yshift: note.shift[1] * POINT, textangle: -note.turned,
        font: { size: Math.max(10, note.size * POINT), color: tint(note.colour) },
      };
    }).filter((note) => Number.isFinite(note.x) && Number.isFinite(note.y));
    const above = panel.notes.some((note) => note.frame[1] === "axes" && note.y > 1);
    const font = { family: getComputedStyle(document.body).fontFamily, size: 12, color: look("--text") };
    const box = {
      xaxis: axisLayout(panel.x, state.x, place.x, 36), yaxis: axisLayout(panel.y, state.y, place.y, 30),
    };
    if (panel.equal) {
      Object.assign(box.yaxis, { scaleanchor: "x", scaleratio: 1, constrain: "domain" });
      box.xaxis.constrain = "domain";
    }
    return {
      ...box, shapes, annotations, font, showlegend: false, hovermode: "closest",
      margin: { l: 8, r: 12, t: above ? 26 : 10, b: 8 }, paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)", dragmode: touch.matches ? false : "zoom",
      hoverlabel: { align: "left", font: { family: font.family, size: 12 } },
      // Zoom stays when a curve is hidden or night falls, and goes when a scale changes.
      uirevision: `${state.x} ${state.y} ${state.resets}`,
    };
  };

  const draw = (plotly, chart) => {
    const { panel, state, plot } = chart;
    const place = { x: placer(panel.x, state.x), y: placer(panel.y, state.y) };
    drawn.add(chart);
    return plotly.react(plot, traces(panel, state, place), layout(panel, state, place), {
      displayModeBar: false, responsive: true, doubleClick: "reset",
    });
  };

  const swatch = (one) => {
    const svg = (tag, attributes) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      return element;
    };
    const box = svg("svg", { viewBox: "0 0 28 12", width: 28, height: 12, "aria-hidden": "true" });
    const ink = { stroke: "currentColor", "stroke-width": 2, fill: "none" };
    const stripe = one.low !== undefined && one.low !== one.high;
    if (stripe) box.append(svg("rect", { x: 2, y: 1, width: 24, height: 10, fill: "currentColor", opacity: 0.4 }));
    else if (one.style !== "none") box.append(svg("path", { d: "M1 6H27", ...ink, "stroke-dasharray": STROKES[one.style] }));
    const shapes = {
      square: "M10 2h8v8h-8z", diamond: "M14 1l5 5-5 5-5-5z", "triangle-up": "M14 1l5 9H9z",
      "triangle-down": "M14 11L9 2h10z", "triangle-left": "M9 6l9-5v10z", "triangle-right": "M19 6l-9-5v10z",
      cross: "M14 1v10M9 6h10", x: "M10 2l8 8M10 10l8-8", star: "M14 1v10M9 6h10M10 2l8 8M10 10l8-8",
      circle: "M10 6a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    };
    const fill = one.hollow ? "none" : "currentColor";
    if (shapes[one.marker]) box.append(svg("path", { d: shapes[one.marker], ...ink, "stroke-width": 1.5, fill }));
    return box;
  };

  // Whether an axis can be switched: never away from ticks that are words.
  const switchable = (axis, values) =>
    axis.ticks.every(([, text]) => /^[-−\d.,e]+$/.test(text)) && values.some((value) => value > 0);

  const buildPanel = (panel, panels, about, redraw) => {
    const state = { x: panel.x.scale, y: panel.y.scale, hidden: new Set(), owner: groups(panel, panels), resets: 0 };
    const name = panel.title || panel.y.label || about;
    const plot = make("div", { class: "plot", role: "img", "aria-label": `${about} ${name}` });
    const chart = { panel, state, plot, legend: [] };
    const tools = make("div", { class: "tools", role: "group", "aria-label": `Axes of ${name}` });
    for (const which of ["x", "y"]) {
      const values = panel.series.flatMap((one) => one[which]);
      if (!switchable(panel[which], values)) continue;
      const first = panel[which].scale;
      const other = first === "linear" ? "log" : "linear";
      const curved = first === "linear" ? "log" : first;
      const button = make("button", {
        type: "button", "aria-pressed": String(first !== "linear"), "data-axis": which,
        "aria-label": `${curved} ${which}: ${which} axis logarithmic, ${name}`,
      }, `${curved} ${which}`);
      button.addEventListener("click", () => {
        state[which] = state[which] === first ? other : first;
        button.setAttribute("aria-pressed", String(state[which] !== "linear"));
        redraw(chart);
      });
      tools.append(button);
    }
    const reset = make("button", { type: "button", "aria-label": `reset: the whole of ${name}` }, "reset");
    reset.addEventListener("click", () => {
      state.resets += 1;
      state.hidden.clear();
      update();
    });
    tools.append(reset);
    const legend = make("div", { class: "legend", role: "group", "aria-label": `Curves of ${name}` });
    const everything = [...panel.series, ...panel.bands, ...panel.references];
    const named = [...new Set(everything.map((one) => state.owner.get(one)).filter(Boolean))];
    const update = () => {
      for (const [one, button] of chart.legend) button.setAttribute("aria-pressed", String(!state.hidden.has(one)));
      redraw(chart);
    };
    for (const one of named) {
      const button = make("button", {
        type: "button", "aria-pressed": "true", title: "click: hide or show; double click: this one alone",
      }, swatch(one), make("span", {}, one.name.trim()));
      button.addEventListener("click", () => {
        if (!state.hidden.delete(one)) state.hidden.add(one);
        update();
      });
      button.addEventListener("dblclick", () => {
        const alone = named.every((other) => other === one || state.hidden.has(other));
        state.hidden = new Set(alone ? [] : named.filter((other) => other !== one));
        update();
      });
      chart.legend.push([one, button]);
      legend.append(button);
    }
    const head = make("div", { class: "head" }, make("strong", {}, panel.title), tools);
    chart.root = make("div", { class: "panel" }, head, plot, legend);
    paint(chart);
    return chart;
  };

  const paint = (chart) => {
    for (const [one, button] of chart.legend) button.firstChild.style.color = tint(one.colour);
  };

  const table = (data) => {
    const quote = (value) => {
      if (value === null || value === undefined) return "";
      if (typeof value === "number") return String(value);
      // A spreadsheet would take such a name for a formula.
      return `"${value.trim().replace(/^[=+\-@]/, "'$&").replace(/"/g, '""')}"`;
    };
    const rows = [["panel", "x axis", "y axis", "curve", "x", "y", "x low", "x high", "y low", "y high", "colour"].map(quote)];
    data.panels.forEach((panel, number) => {
      const head = [panel.title || String(number + 1), panel.x.label, panel.y.label];
      const owner = groups(panel, data.panels);
      for (const one of panel.series) {
        const name = (owner.get(one) || one).name;
        const end = (error, side, i) => (error ? error[side][i] : null);
        one.x.forEach((x, i) => rows.push([
          ...head, name, x, one.y[i], end(one.x_error, 0, i), end(one.x_error, 1, i),
          end(one.y_error, 0, i), end(one.y_error, 1, i),
        ].map(quote)));
      }
      for (const band of panel.bands) {
        const name = (owner.get(band) || band).name;
        band.x.forEach((x, i) => {
          if (x !== null) rows.push([...head, `${name} (band)`, x, null, null, null, band.low[i], band.high[i]].map(quote));
        });
      }
      if (panel.heat) {
        const { x, y, values, label } = panel.heat;
        values.forEach((value, i) => {
          const [row, column] = [Math.floor(i / (x.length - 1)), i % (x.length - 1)];
          rows.push([...head, label, (x[column] + x[column + 1]) / 2, (y[row] + y[row + 1]) / 2, x[column], x[column + 1], y[row], y[row + 1], value].map(quote));
        });
      }
      for (const one of panel.references) {
        const at = one.along === "x" ? [null, null, one.low, one.high] : [null, null, null, null, one.low, one.high];
        rows.push([...head, one.name || "line", ...at].map(quote));
      }
    });
    return rows.map((row) => row.join(",")).join("\r\n") + "\r\n";
  };

  const download = (words, file, type, content) => {
    const link = make("a", { href: "#", download: file }, words);
    const fill = () => {
      link.href = `data:${type};charset=utf-8,${encodeURIComponent(content())}`;
    };
    for (const event of ["click", "contextmenu"]) link.addEventListener(event, fill);
    return link;
  };

  let library = null;
  const load = () => {
    library ??= (async () => {
      const packed = atob(document.getElementById("plotly").textContent.trim());
      const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      const script = make("script");
      script.textContent = await new Response(stream).text();
      document.head.append(script);
      return window.Plotly;
    })();
    return library;
  };

  if (!window.DecompressionStream || !window.IntersectionObserver) return;
  const figures = new Map();
  const giveUp = (figure, error) => {
    console.error(error);
    figure.classList.remove("live"); // the picture is back
  };
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      load().then((plotly) => Promise.all(figures.get(target).map((chart) => draw(plotly, chart))))
        .then(() => target.classList.add("drawn")).catch((error) => giveUp(target, error));
    }
  }, { rootMargin: "300px" });

  for (const figure of document.querySelectorAll("figure.chart")) {
    const source = figure.querySelector("script").textContent;
    const data = JSON.parse(source);
    const stem = figure.dataset.stem;
    const about = figure.querySelector("img").alt;
    const redraw = (chart) => {
      if (drawn.has(chart)) load().then((plotly) => draw(plotly, chart)).catch((error) => giveUp(figure, error));
    };
    const charts = data.panels.map((panel) => buildPanel(panel, data.panels, about, redraw));
    const grid = make("div", { class: "panels", style: `--columns: ${data.columns}` }, ...charts.map((chart) => chart.root));
    const links = make("p", { class: "data" }, "Data: ",
      download("CSV", `${stem}.csv`, "text/csv", () => table(data)), " ",
      download("JSON", `${stem}.json`, "application/json", () => source.trim()));
    const over = data.title ? [make("strong", {}, data.title)] : [];
    figure.querySelector("img").after(make("div", { class: "charts" }, ...over, grid, links));
    figures.set(figure, charts);
    figure.classList.add("live");
    seen.observe(figure);
  }
  night.addEventListener("change", () => {
    for (const charts of figures.values()) charts.forEach(paint);
    load().then((plotly) => drawn.forEach((chart) => draw(plotly, chart)));
  });
})();
