//! `README.txt` and `verify/README.txt`: what a bundle is, the verdict in Kazakh, Russian and English, and the commands that check it.

use std::fmt::Write as _;

use crate::bundle::manifest::Manifest;

/// What a verdict means, in three languages.
fn meaning(verdict: &str) -> [&'static str; 3] {
    match verdict {
        "authentic" => [
            "ТҮПНҰСҚА: сұралған аралықтағы жазба толық, өзгертілмеген, қолтаңбалар мен журнал дәлелдері сай келеді.",
            "ПОДЛИННО: запись за запрошенный промежуток полная, не изменена, подписи и доказательства журнала сходятся.",
            "AUTHENTIC: the footage of the range is whole and unaltered; signatures and log proofs agree.",
        ],
        "authentic-with-gaps" => [
            "ТҮПНҰСҚА, ҮЗІЛІСТЕРІ БАР: бар жазба өзгертілмеген, бірақ бір бөлігі жоқ; себептері gaps.json файлында.",
            "ПОДЛИННО, С ПРОБЕЛАМИ: имеющаяся запись не изменена, но часть отсутствует; причины указаны в gaps.json.",
            "AUTHENTIC WITH GAPS: what is there is unaltered, but a part is missing; gaps.json says why.",
        ],
        "pending" => [
            "КҮТІЛУДЕ: жазба өзгертілмеген, бірақ дәлелі әлі толық емес (куәгерлердің қолы немесе соңғы бөлік жоқ).",
            "ОЖИДАЕТ: запись не изменена, но доказательство ещё не полное (нет подписей свидетелей или конца записи).",
            "PENDING: what is there is unaltered, but the proof is not complete yet.",
        ],
        "unsigned" => [
            "ҚОЛТАҢБАСЫЗ: жазбада тіркегіштің қолтаңбасы жоқ, сондықтан түпнұсқалығын дәлелдеу мүмкін емес.",
            "БЕЗ ПОДПИСИ: подписи регистратора нет, поэтому подлинность доказать нельзя.",
            "UNSIGNED: no signature of a recorder is there, so that nothing can be proven.",
        ],
        _ => [
            "ТҮПНҰСҚА ЕМЕС: тізбек бұзылған немесе екі түрлі жазба бар; нақты буындар chain/ ішінде көрсетілген.",
            "НЕ ПОДЛИННО: цепочка нарушена или существуют две разные записи; точные звенья указаны в chain/.",
            "NOT AUTHENTIC: the chain is broken or there are two versions of it; the very links are in chain/.",
        ],
    }
}

/// The text of `README.txt`. `directory` is the bundle's own.
pub(super) fn text(manifest: &Manifest, directory: &str) -> String {
    let mut text = String::new();
    let requested = &manifest.requested;
    // Writing into a string does not fail.
    let _ = writeln!(
        text,
        "{directory}\n\n\
         Видеожазбалар экспорты / Экспорт видеозаписей / Export of footage\n\
         {from} .. {to} (UTC)\n\
         {created} · {operator} · {unit}\n{purpose}: {reason}\n",
        from = requested.from,
        to = requested.to,
        created = manifest.created_at,
        operator = manifest.operator,
        unit = manifest.unit,
        purpose = manifest.purpose,
        reason = manifest.reason,
    );
    for delivered in &manifest.delivered {
        let [kazakh, russian, english] = meaning(&delivered.verdict);
        let _ = writeln!(
            text,
            "{} ({}, {}): {}\n  қаз: {kazakh}\n  рус: {russian}\n  eng: {english}\n",
            delivered.recorder, delivered.department, delivered.label, delivered.verdict
        );
        for media in &delivered.media {
            let (from, to) = media.corrected.as_ref().unwrap_or(&(media.from.clone(), media.to.clone())).clone();
            let _ = writeln!(text, "  {}  {from} .. {to}", media.path);
        }
        text.push('\n');
    }
    text.push_str(CHECK);
    text
}

/// How anybody checks a bundle.
const CHECK: &str = "\
Бұл қорытынды экспорттаушының пікірі; оны өзіңіз тексеріңіз. Файлдар жазылған күйінде, қайта кодталмаған.
Этот вывод сделан тем, кто экспортировал; проверьте его сами. Файлы лежат байт в байт, без перекодирования.
The verdict above is the exporter's; check it yourself. The files are byte for byte what was recorded.

Тексеру / Проверка / One command to check it, offline:

    aigaq verify .                       (--trust FILE: your own keys instead of those in here)

Кез келген құралмен / Любыми средствами / With anybody's tools:

    sha256sum -c SHA256SUMS
    openssl x509 -in certs/exporter.pem -pubkey -noout > exporter.pub
    openssl dgst -sha256 -verify exporter.pub -signature manifest.sig manifest.json
    openssl verify -CAfile verify/anchors.pem -untrusted certs/exporter.pem certs/exporter.pem
    ffprobe media/*/*.mp4

Segments are whole: a file may begin a little before the range and end a little after it. Times of the manifest, gaps, marks and
positions stand twice, by the clock of the device and by that of the server; on the second all recorders of this export agree.
";

/// The text of `verify/README.txt`.
pub(super) const VERIFIER: &str = "\
The verifier is the program aigaq, built without any code of a server:

    cargo install --path . --no-default-features --features verify      (in its source)
    aigaq verify BUNDLE --trust FILE

anchors.pem lists the CAs that the exporting server trusts. That they are listed here proves nothing: whoever checks this bundle
trusts keys that came to them another way. What the files mean is written in proto/BUNDLE.md of the source.
";
