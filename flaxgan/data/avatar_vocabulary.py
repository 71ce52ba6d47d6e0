"""What the parts of an avatar are called: enum name of python-avatars -> English and Chinese words.

`{c}` is the place of the colour. Synonyms are alternatives of one value. Chinese phrases are nouns
that can follow 有 (have), 穿着 (wear clothes) or 戴着 (wear on the head).
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

Item = TypeVar("Item")

HIDDEN = "HIDDEN"  # an attribute value that the picture does not show


class Words(NamedTuple):
    """Ways to name one attribute value."""

    en: tuple[str, ...]
    zh: tuple[str, ...]


def pick(options: Sequence[Item], rng: np.random.Generator) -> Item:
    """One of the options, each as likely."""
    return options[int(rng.integers(len(options)))]


def table_of_words(table: dict[str, tuple[str, str]]) -> dict[str, Words]:
    """ "a|b" -> ("a", "b")."""
    return {name: Words(*(tuple(side.split("|")) for side in row)) for name, row in table.items()}


SKIN = table_of_words(
    {
        "PALE": ("pale skin|very light skin", "苍白的皮肤|很白的皮肤"),
        "LIGHT": ("light skin|fair skin", "浅色皮肤|白皙的皮肤"),
        "TANNED": ("tanned skin|orange skin", "晒黑的皮肤|橙色皮肤"),
        "YELLOW": ("yellow skin", "黄色皮肤"),
        "BROWN": ("light brown skin", "浅棕色皮肤"),
        "DARK_BROWN": ("brown skin", "棕色皮肤"),
        "BLACK": ("dark brown skin|dark skin", "深棕色皮肤|深色皮肤"),
    }
)

HAIR_COLOR = table_of_words(
    {
        "AUBURN": ("auburn|reddish brown", "赤褐色"),
        "BLACK": ("black", "黑色"),
        "BLONDE": ("dark blonde", "深金色"),
        "BLONDE_GOLDEN": ("golden blonde|golden", "金色"),
        "BROWN": ("brown", "棕色|褐色"),
        "BROWN_DARK": ("dark brown", "深棕色|深褐色"),
        "PASTEL_PINK": ("pink", "粉色|粉红色"),
        "PLATINUM": ("platinum blonde|platinum", "铂金色"),
        "RED": ("red|bright red", "红色"),
        "SILVER_GRAY": ("silver|silver gray", "银色|银灰色"),
    }
)

CLOTHING_COLOR = table_of_words(
    {
        "BLACK": ("black", "黑色"),
        "BLUE_01": ("sky blue", "天蓝色"),
        "BLUE_02": ("blue", "蓝色"),
        "BLUE_03": ("navy blue|dark blue", "深蓝色|海军蓝"),
        "GRAY_01": ("light gray", "浅灰色"),
        "GRAY_02": ("gray", "灰色"),
        "HEATHER": ("slate|slate gray", "石板灰色"),
        "PASTEL_BLUE": ("pale blue", "淡蓝色"),
        "PASTEL_GREEN": ("mint green|light green", "薄荷绿色|浅绿色"),
        "PASTEL_ORANGE": ("peach", "蜜桃色|杏色"),
        "PASTEL_YELLOW": ("pale yellow|light yellow", "淡黄色|浅黄色"),
        "PINK": ("pink|hot pink", "粉色|粉红色"),
        "RED": ("red", "红色"),
        "WHITE": ("white", "白色"),
    }
)

# without {c}: the drawing has a colour of its own
HAIR = table_of_words(
    {
        "NONE": ("a bald head|no hair", "光秃的头顶"),
        "BIG_HAIR": ("long voluminous {c} hair|big {c} hair", "浓密的{c}长发"),
        "BOB": ("a {c} bob|a {c} bob cut", "{c}波波头"),
        "BUN": ("{c} hair in a bun|a {c} bun", "{c}丸子头"),
        "CAESAR_SIDE_PART": ("short {c} hair with a side part", "侧分的{c}短发"),
        "CAESAR": ("short {c} hair in a caesar cut", "{c}凯撒短发"),
        "CURLY": ("big curly {c} hair", "蓬松的{c}卷发"),
        "CURVY": ("long wavy {c} hair with bangs", "带刘海的{c}波浪长发"),
        "DREADS": ("long {c} dreadlocks", "{c}长脏辫"),
        "FRIDA": ("{c} hair with a crown of flowers", "戴着花环的{c}头发"),
        "FRIZZLE": ("a {c} tuft of hair", "一撮{c}头发"),
        "FRO_BAND": ("a {c} afro with a headband", "系着发带的{c}爆炸头"),
        "FRO": ("a {c} afro", "{c}爆炸头"),
        "LONG_NOT_TOO_LONG": ("shoulder-length {c} hair", "{c}齐肩发"),
        "MIA_WALLACE": ("a {c} bob with bangs", "带刘海的{c}波波头"),
        "SHAGGY_MULLET": ("a shaggy {c} mullet", "蓬乱的{c}鲻鱼头"),
        "SHAGGY": ("shaggy {c} hair", "蓬乱的{c}短发"),
        "SHAVED_SIDES": ("long blonde hair with shaved sides", "两侧剃光的金色长发"),
        "SHORT_CURLY": ("short curly {c} hair", "{c}短卷发"),
        "SHORT_DREADS_1": ("short {c} dreadlocks", "{c}短脏辫"),
        "SHORT_DREADS_2": ("wild {c} dreadlocks", "狂野的{c}脏辫"),
        "SHORT_FLAT": ("short {c} hair|short flat {c} hair", "{c}短发"),
        "SHORT_ROUND": ("short round {c} hair", "{c}圆寸短发"),
        "SHORT_WAVED": ("short wavy {c} hair", "{c}短波浪发"),
        "SIDES": ("a bald top with {c} hair at the sides", "只剩两侧的{c}头发"),
        "STRAIGHT_1": ("long straight {c} hair", "{c}长直发"),
        "STRAIGHT_2": ("very long brown hair", "棕色超长直发"),
        "STRAIGHT_STRAND": ("long straight {c} hair with bangs", "带刘海的{c}长直发"),
        "ASTRONAUT": ("an astronaut helmet", "宇航员头盔"),
        "BRAIDS": ("{c} braids tied up|{c} braids", "扎起的{c}辫子"),
        "BRIDE": ("{c} bridal hair|{c} hair in a bridal style", "{c}新娘发型"),
        "BUZZCUT": ("a {c} buzz cut", "{c}寸头"),
        "CORNROWS": ("{c} cornrows", "{c}玉米辫"),
        "CURLY_2": ("long {c} curls over one eye", "遮住一只眼睛的{c}长卷发"),
        "DREADLOCKS": ("{c} dreadlocks tied back", "扎起的{c}脏辫"),
        "EINSTEIN_HAIR": ("wild {c} Einstein hair", "爱因斯坦式的{c}乱发"),
        "ELVIS": ("a {c} Elvis quiff", "{c}猫王式飞机头"),
        "EVIL_SPIKE": ("spiky {c} hair", "{c}刺猬头"),
        "HALF_SHAVED": ("half-shaved {c} hair", "半边剃光的{c}头发"),
        "HAT": ("a black wide-brimmed hat", "黑色宽檐帽"),
        "LONG_HAIR_CURLY": ("long curly {c} hair", "{c}长卷发"),
        "LOOSE_HAIR": ("long loose {c} hair", "披散的{c}长发"),
        "MOHAWK": ("a {c} mohawk", "{c}莫西干头"),
        "MOWGLI": ("messy {c} hair", "凌乱的{c}头发"),
        "PIXIE": ("a {c} pixie cut", "{c}精灵短发"),
        "POMPADOUR": ("a {c} pompadour", "{c}蓬巴杜发型"),
        "QUIFF": ("a {c} quiff", "{c}飞机头"),
        "TWIST_LONG_HAIR": ("long twisted {c} hair", "{c}长扭辫"),
        "TWIST_LONG_HAIR_2": ("long {c} twists with a side part", "侧分的{c}长扭辫"),
        "WICK": ("chin-length {c} hair", "齐下巴的{c}头发"),
        "WILD": ("wild {c} hair", "狂野的{c}头发"),
    }
)

HAT = table_of_words(
    {
        "HAT": ("a {c} wide-brimmed hat", "{c}宽檐帽"),
        "HIJAB": ("a {c} hijab|a {c} headscarf", "{c}头巾"),
        "TURBAN": ("a {c} turban", "{c}缠头巾"),
        "WINTER_HAT_1": ("a {c} winter hat with ear flaps", "带护耳的{c}冬帽"),
        "WINTER_HAT_2": ("a {c} knitted hat with pompoms", "带绒球的{c}针织帽"),
        "WINTER_HAT_3": ("a {c} beanie", "{c}毛线帽"),
        "WINTER_HAT_4": ("a {c} beanie with cat ears", "带猫耳的{c}毛线帽"),
        "CHEF_CAP": ("a white chef's hat", "白色厨师帽"),
        "JEDI": ("a {c} hood", "{c}兜帽"),
        "GLADIATOR_HELMET": ("a {c} gladiator helmet", "{c}角斗士头盔"),
    }
)

FACIAL_HAIR = table_of_words(
    {
        "BEARD_LIGHT": ("a short {c} beard|{c} stubble", "{c}短胡子"),
        "BEARD_MAGESTIC": ("a big {c} beard|a long {c} beard", "{c}大胡子"),
        "BEARD_MEDIUM": ("a {c} beard|a full {c} beard", "{c}络腮胡"),
        "MOUSTACHE_FANCY": ("a curled {c} mustache", "翘起的{c}八字胡"),
        "MOUSTACHE_MAGNUM": ("a thick {c} mustache|a {c} mustache", "浓密的{c}小胡子"),
        "EINSTEIN_MOUSTACHE": ("a bushy {c} mustache", "蓬松的{c}小胡子"),
        "WICK_BEARD": ("a scruffy {c} beard", "邋遢的{c}胡子"),
    }
)

ACCESSORY = table_of_words(
    {
        "EYEPATCH": ("a black eyepatch", "黑色眼罩"),
        "KURT": ("white oval sunglasses", "白色椭圆墨镜"),
        "PRESCRIPTION_1": ("white-framed glasses|pale glasses", "浅色框眼镜"),
        "PRESCRIPTION_2": ("black-framed glasses|black glasses", "黑框眼镜"),
        "ROUND": ("round glasses", "圆框眼镜"),
        "SUNGLASSES": ("black sunglasses|sunglasses", "黑色墨镜|墨镜"),
        "WAYFARERS": ("dark wayfarer sunglasses|wayfarers", "徒步旅行者款墨镜"),
        "SUNGLASSES_2": ("purple sunglasses", "紫色墨镜"),
        "WAYFARERS_2": ("purple wayfarer sunglasses", "紫色徒步旅行者款墨镜"),
    }
)

CLOTHING = table_of_words(
    {
        "NONE": ("", ""),
        "BLAZER_SHIRT": ("a dark blazer over a {c} shirt", "内搭{c}衬衫的深色西装外套"),
        "BLAZER_SWEATER": ("a dark blazer over a {c} sweater", "内搭{c}毛衣的深色西装外套"),
        "COLLAR_SWEATER": ("a {c} sweater with a white collar|a {c} sweater", "带白领子的{c}毛衣"),
        "GRAPHIC_SHIRT": ("a {c} T-shirt with a print", "带印花的{c}T恤"),
        "HOODIE": ("a {c} hoodie", "{c}连帽衫"),
        "OVERALL": ("{c} overalls|{c} dungarees", "{c}背带裤"),
        "SHIRT_CREW_NECK": ("a {c} crew-neck shirt|a {c} T-shirt", "{c}圆领衫"),
        "SHIRT_SCOOP_NECK": ("a {c} scoop-neck shirt", "{c}大圆领衫"),
        "SHIRT_V_NECK": ("a {c} V-neck shirt", "{c}V领衫"),
        "ASTRONAUT_SUIT": ("a space suit|an astronaut suit", "宇航服"),
        "BOND_SUIT": ("a tuxedo with a {c} shirt", "配{c}衬衫的黑色礼服"),
        "CHEF": ("a {c} chef's jacket", "{c}厨师服"),
        "GLADIATOR": ("{c} gladiator armor", "{c}角斗士盔甲"),
        "JEDI_ROBE": ("a black Jedi robe over a {c} tunic", "内搭{c}上衣的黑色绝地武士长袍"),
        "SHIRT_WICK": ("a black suit with a {c} tie", "配{c}领带的黑色西装"),
    }
)

MOUTH = table_of_words(
    {
        "CONCERNED": ("a worried look", "担忧的表情"),
        "DEFAULT": ("an open mouth", "张开的嘴"),
        "DISBELIEF": ("a look of disbelief", "难以置信的表情"),
        "EATING": ("full cheeks", "鼓鼓的腮帮子"),
        "GRIMACE": ("clenched teeth", "咬紧的牙齿"),
        "SAD": ("a sad mouth", "难过的表情"),
        "SCREAM_OPEN": ("a screaming mouth", "尖叫的嘴"),
        "SERIOUS": ("a serious look", "严肃的表情"),
        "SMILE": ("a smile", "微笑的表情"),
        "TONGUE": ("a tongue sticking out", "吐出的舌头"),
        "TWINKLE": ("a slight smile", "浅浅的笑容"),
        "VOMIT": ("a mouth vomiting green", "吐着绿色呕吐物的嘴"),
        "BIG_SMILE": ("a big smile|a wide grin", "大大的笑容|灿烂的笑容"),
    }
)

EYES = table_of_words(
    {
        "CLOSED": ("closed eyes", "闭着的眼睛"),
        "CRY": ("a tear", "一滴眼泪"),
        "DEFAULT": ("open eyes", "睁开的眼睛"),
        "EYE_ROLL": ("rolling eyes", "上翻的眼睛"),
        "HAPPY": ("happy eyes", "开心的眼睛"),
        "HEART": ("heart-shaped eyes", "心形的眼睛"),
        "SIDE": ("eyes looking sideways", "瞟向一侧的眼睛"),
        "SQUINT": ("half-shut eyes", "半闭的眼睛"),
        "SURPRISED": ("wide eyes", "睁大的眼睛"),
        "WINK_WACKY": ("one wacky winking eye", "搞怪地眨着的眼睛"),
        "WINK": ("one winking eye", "一只眨着的眼睛"),
        "X_DIZZY": ("crossed-out dizzy eyes", "晕眩的叉形眼睛"),
    }
)

EYEBROWS = table_of_words(
    {
        "NONE": ("no eyebrows", "剃光的眉毛"),
        "ANGRY_NATURAL": ("bushy angry eyebrows", "怒竖的浓眉"),
        "ANGRY": ("angry eyebrows", "怒竖的眉毛"),
        "DEFAULT_NATURAL": ("natural eyebrows", "自然的眉毛"),
        "DEFAULT": ("thin eyebrows", "细眉毛"),
        "FLAT_NATURAL": ("flat eyebrows", "平直的眉毛"),
        "FROWN_NATURAL": ("frowning eyebrows", "皱起的眉毛"),
        "RAISED_EXCITED_NATURAL": ("bushy raised eyebrows", "浓密上扬的眉毛"),
        "RAISED_EXCITED": ("raised eyebrows", "上扬的眉毛"),
        "SAD_CONCERNED_NATURAL": ("bushy sad eyebrows", "浓密下垂的眉毛"),
        "SAD_CONCERNED": ("sad eyebrows", "下垂的眉毛"),
        "UNIBROW_NATURAL": ("a unibrow", "连心眉"),
        "UP_DOWN_NATURAL": ("one bushy raised eyebrow", "一边挑起的浓眉"),
        "UP_DOWN": ("one raised eyebrow", "一边挑起的眉毛"),
    }
)

GRAPHICS = ("SKULL", "SKULL_OUTLINE", "BAT", "BEAR", "DEER", "DIAMOND", "PIZZA")  # no lettering

# drawings that are read as a woman's; with facial hair a person is "a man", else "a person"
FEMININE_TOPS = frozenset(
    {
        "BIG_HAIR",
        "BOB",
        "BUN",
        "CURVY",
        "FRIDA",
        "LONG_NOT_TOO_LONG",
        "MIA_WALLACE",
        "STRAIGHT_1",
        "STRAIGHT_2",
        "BRIDE",
        "CURLY_2",
        "STRAIGHT_STRAND",
        "LONG_HAIR_CURLY",
        "LOOSE_HAIR",
        "TWIST_LONG_HAIR",
        "TWIST_LONG_HAIR_2",
        "BRAIDS",
        "HIJAB",
    }
)
BEARDLESS_TOPS = FEMININE_TOPS | {"ASTRONAUT"}  # the drawing hides a beard, or would look odd
NO_GLASSES_TOPS = frozenset({"LONG_HAIR_CURLY"})  # the drawing hides them
NO_EYEBROWS_TOPS = frozenset({"JEDI"})  # the shadow of the hood hides them
