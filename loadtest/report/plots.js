"use strict";
(() => {
  const runs = JSON.parse(document.getElementById("data").textContent);
  const place = document.getElementById("charts");
  const dashes = [[], [7, 4], [2, 3]];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let plots = [];

  const scaled = (value, steps) => {
    const step = steps.find(([size]) => Math.abs(value) >= size) || steps[steps.length - 1];
    const shown = value / step[0];
    const digits = Math.abs(shown) >= 100 || Number.isInteger(shown) ? 0 : Math.abs(shown) >= 10 ? 1 : 2;
    return shown.toFixed(digits) + step[1];
  };
  const units = {
    bytes: (value) => scaled(value, [[1e9, " GB"], [1e6, " MB"], [1e3, " KB"], [1, " B"]]),
    ms: (value) => scaled(value, [[1e3, " s"], [1, " ms"]]),
    cores: (value) => scaled(value, [[1, ""]]),
    "/s": (value) => scaled(value, [[1e6, " M/s"], [1e3, " k/s"], [1, "/s"]]),
    "": (value) => scaled(value, [[1e6, " M"], [1, ""]]).replace(/\B(?=(\d{3})+$)/g, ","),
  };

  // Lines of one group (the processes of a role) share a colour and one entry in the legend.
  const paint = (lines) => {
    const groups = [...new Set(lines.map((line) => line.group || line.name))];
    return lines.map((line) => {
      const place = groups.indexOf(line.group || line.name);
      return { stroke: color(`--l${place % 6}`), dash: dashes[Math.floor(place / 6) % 3], key: groups[place] };
    });
  };

  const marks = (run) => (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
    ctx.font = `${11 * devicePixelRatio}px system-ui`;
    let free = -Infinity;
    for (const mark of run.marks) {
      const x = Math.round(plot.valToPos(mark.at_s, "x", true));
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.strokeStyle = ctx.fillStyle = mark.kind === "phase" ? color("--soft") : color("--bad");
      ctx.globalAlpha = mark.kind === "phase" ? 0.55 : 0.9;
      ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top - 4 * devicePixelRatio);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const text = mark.text.length > 24 ? `${mark.text.slice(0, 23)}…` : mark.text;
      const width = ctx.measureText(text).width;
      if (x > free && x + width < bbox.left + bbox.width) {
        ctx.globalAlpha = 1;
        ctx.fillText(text, x, bbox.top - 7 * devicePixelRatio);
        free = x + width + 6 * devicePixelRatio;
      }
    }
    ctx.restore();
  };

  const legend = (box, chart, paints, format) => {
    const entries = new Map();
    chart.lines.forEach((line, index) => {
      const { key, stroke } = paints[index];
      if (!entries.has(key)) entries.set(key, { stroke, indices: [] });
      entries.get(key).indices.push(index);
    });
    const row = document.createElement("div");
    row.className = "legend";
    const texts = [...entries].map(([key, { stroke, indices }]) => {
      const item = document.createElement("span");
      const swatch = document.createElement("i");
      swatch.style.background = stroke;
      const value = document.createElement("b");
      item.append(swatch, indices.length > 1 ? `${key} × ${indices.length} ` : `${key} `, value);
      row.append(item);
      return { value, indices };
    });
    box.append(row);
    return (plot) => {
      const at = plot.cursor.idx;
      for (const { value, indices } of texts) {
        const known = indices.map((index) => chart.lines[index].values[at]).filter((found) => found != null);
        value.textContent = at == null || !known.length ? "" : format(Math.max(...known));
      }
    };
  };

  const draw = (run, chart, limits) => {
    const box = document.createElement("div");
    box.className = "chart";
    const title = document.createElement("h3");
    title.textContent = run.label ? `${chart.title} – ${run.label}` : chart.title;
    const note = document.createElement("p");
    note.textContent = chart.note;
    box.append(title, note);
    place.append(box);
    const format = units[chart.unit];
    const paints = paint(chart.lines);
    const axis = { stroke: color("--soft"), grid: { stroke: color("--grid"), width: 1 }, ticks: { stroke: color("--grid") } };
    const holder = document.createElement("div");
    box.append(holder);
    const tell = legend(box, chart, paints, format);
    const options = {
      width: box.clientWidth - 28,
      height: 220,
      padding: [20, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false },
      scales: { x: { time: false, range: limits.x }, y: { range: limits.y } },
      axes: [
        { ...axis, values: (plot, splits) => splits.map((second) => `${second} s`) },
        { ...axis, size: 72, values: (plot, splits) => splits.map(format) },
      ],
      series: [
        {},
        ...chart.lines.map((line, index) => ({
          label: line.name,
          stroke: paints[index].stroke,
          dash: paints[index].dash.map((length) => length * devicePixelRatio),
          width: line.group ? 1 : 1.75,
          points: { show: false },
          spanGaps: chart.unit === "ms",
        })),
      ],
      hooks: { draw: [marks(run)], setCursor: [tell] },
    };
    const times = chart.times && chart.times.length ? chart.times : run.times;
    plots.push([new uPlot(options, [times, ...chart.lines.map((line) => line.values)], holder), box]);
  };

  const all = () => {
    plots.forEach(([plot]) => plot.destroy());
    plots = [];
    place.replaceChildren();
    place.className = runs.length > 1 ? "two" : "";
    const ends = runs.map((run) => run.times[run.times.length - 1] || 1);
    const starts = runs.map((run) => run.times[0] || 0);
    const x = [Math.min(...starts), Math.max(...ends, 1)];
    const keys = [...new Set(runs.flatMap((run) => run.charts.map((chart) => chart.key)))];
    for (const key of keys) {
      const found = runs.map((run) => run.charts.find((chart) => chart.key === key));
      let most = 0;
      for (const chart of found) {
        for (const line of chart ? chart.lines : []) for (const value of line.values) if (value > most) most = value;
      }
      found.forEach((chart, index) => {
        const some = found.find((other) => other);
        draw(runs[index], chart || { ...some, lines: [], times: [] }, { x, y: [0, most ? most * 1.08 : 1] });
      });
    }
  };

  all();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  addEventListener("resize", () => plots.forEach(([plot, box]) => plot.setSize({ width: box.clientWidth - 28, height: 220 })));
})();
